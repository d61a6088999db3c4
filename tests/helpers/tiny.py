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
    """Returns arguments of every estimator, as in configs/demo.py, without logits."""
    found = ConfigDict(runpy.run_path(str(DEMO))["ESTIMATORS"]).to_dict()
    return {
        name: args | ({"matching": "parameters"} if "matching" in args else {})
        for name, args in found.items()
    }


def demo(variant):
    """Returns a config of configs/demo.py."""
    return runpy.run_path(str(DEMO))["get_config"](variant)


def get_config(variant=""):
    """Returns the config; `variant` as in configs/demo.py, and `validated`."""
    words = variant.split(",")
    c = demo(",".join(["quick", *(word for word in words if word != "validated")]))
    c.family.name = "quadratic"
    with c.unlocked():
        c.family.args = QUADRATIC
    if "matching" in c.estimator.args:
        c.estimator.args.matching = "parameters"  # there are no predictions
    c.validation.every = 20 if "validated" in words else 0
    c.outer.num_steps = 60
    c.log.every = 1
    c.checkpoint.every = 10
    return c
