"""Meta-gradient estimators against the exact gradient, on a tiny and a small MLP.

    python -m meta_train.study.compare --config=configs/compare_estimators.py \
      --workdir=runs/compare --page=docs/estimators.md

Hardware: 2 CPU cores, about 70 minutes, 12 of them compiling. Expected:
the tables of docs/estimators.md. The same command goes on where it was stopped, between
problems. Variant, after a colon: `quick` (a minute, for tests; says nothing).
"""

from ml_collections import ConfigDict, config_dict

from common.names import near

NOISE = {
    "sigma": 0.01,
    "per_leaf": False,
    "antithetic": True,
    "shared_batches": True,
    "sign": False,
    "clip": None,
}
MATCHING = {  # that of configs/demo.py
    "matching": "kl",
    "target": {
        "rule_steps": 0,
        "baseline_steps": 80,
        "baseline": "adam",
        "learning_rate": 5e-3,
    },
}
# Of each: its arguments, whether an estimate is a whole run, and for how many horizons
# in a row a replica is measured: more where estimates are noisy and cheap.
ESTIMATORS = {
    "full": ("full", {"clip": None}, True, 1),
    "full_smoothed": ("smoothed", {"noise": NOISE}, True, 1),
    "truncated": ("truncated", {}, False, 1),
    "multi_step": ("multi_step", {"decay": 0.9}, False, 1),
    "smoothed": ("smoothed", {"noise": NOISE}, False, 1),
    "combined": ("combined", {"noise": NOISE, "decay": 0.9}, False, 1),
    "bootstrapped": ("bootstrapped", MATCHING | {"reuse": False}, False, 1),
    "bootstrapped_pes": (
        "bootstrapped_pes",
        MATCHING | {"span": 4, "noise": NOISE},
        False,
        8,
    ),
    "es": ("es", {"noise": NOISE}, True, 8),
    "truncated_es": ("truncated_es", {"noise": NOISE}, False, 8),
    "pes": ("pes", {"noise": NOISE}, False, 8),
    "nres": ("nres", {"noise": NOISE}, False, 8),
}
MLP = {
    "resolution": None,
    "activations": ("relu",),
    "vary": {},
    "parametrization": "mup",
    "zero_readout": True,
}
IRIS = MLP | {  # 4-3-3: 27 parameters
    "dataset": "iris",
    "width": 3,
    "base_width": 3,
    "depth": 1,
    "batch_size": 16,
}
START = "configs/compare_estimators_start"  # the `demo` of then
DIGITS = MLP | {  # 64-32-32-10, that of configs/demo.py
    "dataset": "digits",
    "width": 32,
    "base_width": 32,
    "depth": 2,
    "batch_size": 64,
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "" or "quick"."""
    if variant not in ("", "quick"):
        known = ["quick"]
        raise ValueError(
            f"unknown {variant=}; known: {', '.join(known)}.{near(variant, known)}"
        )
    c = ConfigDict({"seed": 0})
    c.rule = ConfigDict({"name": "mlp"})
    c.rule.args = {  # that of configs/demo.py before its steps were bounded
        "hidden": 16,
        "layers": 2,
        "head": "exp",
        "eps": "relative",
        "time": ("relative",),
        "signal": False,
        "nominal": 0.0,
        "clip": 16.0,
        "step_mult": 3e-2,
        "exp_mult": 0.1,
    }
    c.inner = ConfigDict()  # but for window, horizon and stagger, which problems set
    c.inner.growth = 0
    c.inner.reduce = "mean"
    c.inner.valid_weight = 0.25
    c.inner.log_offset = 1e-2
    c.inner.schedule = None
    c.inner.fresh = 1.0
    c.inner.imitation = None

    c.estimators = ConfigDict()
    for label, (name, args, whole, horizons) in ESTIMATORS.items():
        c.estimators[label] = ConfigDict(
            {"name": name, "args": args, "whole": whole, "horizons": horizons}
        )

    c.problems = ConfigDict()
    c.problems["iris_start"] = problem(IRIS, window=5, horizon=20, num_workers=64)
    c.problems["iris_demo"] = c.problems["iris_start"].copy_and_resolve_references()
    c.problems["iris_demo"].start = START
    c.problems["digits_demo"] = problem(DIGITS, window=20, horizon=100, num_workers=8)
    c.problems["digits_demo"].start = START
    c.problems["digits_demo"].replicas = 48
    # Here even the full gradient is lost in its noise: what else still has a signal?
    c.problems["digits_long"] = c.problems["digits_demo"].copy_and_resolve_references()
    c.problems["digits_long"].horizon = 200
    c.problems["digits_long"].estimators = ("full", "truncated", "es", "pes", "nres")
    return quick(c) if variant == "quick" else c


def problem(family: dict, *, window: int, horizon: int, num_workers: int) -> ConfigDict:
    """Returns a problem, at the rule's first theta."""
    p = ConfigDict()
    p.start = config_dict.placeholder(str)  # an artifact to take theta from
    p.family = ConfigDict({"name": "mlp", "args": family})
    p.window = window
    p.horizon = horizon  # one for all runs, so that all estimate one gradient
    p.num_workers = num_workers  # of an estimate
    p.skip = 2  # horizons before those that count; the first run started staggered
    p.replicas = 128
    p.exact = 192  # replicas of `full` that make the exact gradient
    p.estimators = tuple(ESTIMATORS)
    return p


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to one problem that takes seconds."""
    c.rule.args.hidden = 4
    c.rule.args.layers = 1
    for label in set(c.problems) - {"iris_start"}:
        del c.problems[label]
    p = c.problems["iris_start"]
    p.window, p.horizon, p.num_workers = 2, 4, 2
    p.skip, p.replicas, p.exact = 1, 4, 4
    p.estimators = ("full", "truncated", "bootstrapped", "pes")
    c.estimators.bootstrapped.args.target.baseline_steps = 2
    return c
