"""The smallest whole run: the demo's quick variant on a quadratic."""

import runpy

from ml_collections import ConfigDict
from places import ROOT

DEMO = ROOT / "configs" / "demo.py"
QUADRATIC = {
    "dimension": 3,
    "condition": (1.0, 10.0),
    "noise": (0.0, 0.1),
    "spectrum": "geometric",
    "rotation": True,
}


def estimators():
    """Returns arguments of every estimator, as configs/demo.py has them, but logits."""
    from meta_train import sections  # not before a command has caught signals

    found = {}
    for name in runpy.run_path(str(DEMO))["ESTIMATORS"]:
        args = sections.complete(demo(name))["estimator"]["args"]
        found[name] = args | (PARAMETERS if "matching" in args else {})
    return found


PARAMETERS = {"matching": "parameters"}  # quadratics have no predictions


def demo(variant):
    """Returns a config of configs/demo.py."""
    return runpy.run_path(str(DEMO))["get_config"](variant)


def get_config(variant=""):
    """Returns the config; `variant` as in configs/demo.py, and `validated`."""
    words = variant.split(",")
    c = demo(",".join(["quick", *(word for word in words if word != "validated")]))
    c.family = ConfigDict({"name": "quadratic", "args": QUADRATIC})
    if "bootstrapped" in c.estimator.name:
        c.estimator.args.update(PARAMETERS)
    c.validation.every = 20 if "validated" in words else 0
    c.outer.num_steps = 60
    c.log.every = 1
    c.checkpoint.every = 10
    return c
