"""A learned optimizer for small MLPs on 8x8 digits, in minutes on a laptop CPU.

    python -m meta_train --config=configs/demo.py --workdir=runs/demo

Hardware: 2 CPU cores, 2 to 6 minutes. Expected on the reporting seeds of evaluate.py:
mean training loss .12 over 200 steps, final .005 to .006, validation .2.
Variants, after a colon and joined by commas: an estimator, such as `pes`; `quick`
(seconds, for tests; learns nothing).
"""

from ml_collections import ConfigDict, FieldReference, config_dict

from common.names import near

NOISE = {
    "sigma": 0.01,
    "per_leaf": False,
    "antithetic": True,
    "shared_batches": True,
    "sign": False,
    "clip": config_dict.placeholder(float),
}
# Windows are short, 5, and targets far: with 20 and 10 steps rules may still blow up
# after 200 meta-steps; with parameters matched, or targets by the rule, none learned.
MATCHING = {
    "matching": "kl",
    "target": {
        "rule_steps": 0,
        "baseline_steps": 80,
        "baseline": "adam",
        "learning_rate": 5e-3,
    },
}
ESTIMATORS = {
    "truncated": {},
    "multi_step": {"decay": 0.9},
    "smoothed": {"noise": NOISE},
    "full": {"clip": None},
    "es": {"noise": NOISE},
    "truncated_es": {"noise": NOISE},
    "pes": {"noise": NOISE},
    "nres": {"noise": NOISE},
    "bootstrapped": MATCHING | {"reuse": False},
    "bootstrapped_pes": MATCHING | {"span": 4, "noise": NOISE},
    "combined": {"noise": NOISE, "decay": 0.9},
    "implicit": {
        "solver": {"name": "cg", "steps": 20, "step_size": None, "damping": 1e-2}
    },
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant, such as "" or "quick,pes"."""
    words = set(variant.split(",")) - {""}
    unknown = words - {"quick", *ESTIMATORS}
    if unknown or len(words & set(ESTIMATORS)) > 1:
        raise ValueError(
            f"unknown {variant=}; join by commas `quick` and at most one of "
            f"{', '.join(ESTIMATORS)}.{near(variant, ['quick', *ESTIMATORS])}"
        )
    c = full(estimator=next(iter(words & set(ESTIMATORS)), "truncated"))
    return quick(c) if "quick" in words else c


def full(*, estimator: str) -> ConfigDict:
    """Returns the config that `make demo` runs."""
    c = ConfigDict({"seed": 0})
    set_inner_training(c)
    set_meta_training(c, estimator)
    if "target" in c.estimator.args:
        c.inner.window = 5
    if estimator == "implicit":  # for theta that enters what is minimised
        c.rule = ConfigDict({"name": "weight_decay"})
        c.rule.args = {"baseline": "adam", "learning_rate": 1e-2, "initial": 1e-4}
    return c


def set_inner_training(c: ConfigDict):
    """Sets what is learned, and what it learns from."""
    c.rule = ConfigDict({"name": "mlp"})
    c.rule.args = {
        "hidden": 16,
        "layers": 2,
        "head": "exp",
        "eps": "relative",  # the scale of the loss then does not matter
        "time": ("relative",),
        "signal": False,
        "nominal": 0.0,
        "clip": 4.0,  # larger inputs, as in embeddings, it has not seen
        "step_mult": 3e-2,
        "exp_mult": 0.1,
        "bound": 2.0,  # else what has no gradient moves; at 5 deep networks spike
        "axes": "fans",
    }

    c.theta = ConfigDict()
    c.theta.start = config_dict.placeholder(str)  # an artifact to go on from
    c.theta.frozen = ()  # leaves that are not learned, such as "decays"

    c.family = ConfigDict({"name": "mlp"})
    c.family.args = {
        "dataset": "digits",
        "resolution": None,  # as stored, 8x8
        "width": 32,
        "base_width": 32,
        "depth": 2,  # 64-32-32-10
        "batch_size": 64,
        "activations": ("relu",),
        "vary": {},
        "parametrization": "mup",
        "zero_readout": True,  # hidden layers then learn from the second update on
    }

    c.inner = ConfigDict()
    # Or a pair, of which each run draws one; memory grows linearly with it.
    c.inner.window = FieldReference(20, field_type=object)
    c.inner.horizon = (150, 300)  # log-uniform in between, both included
    c.inner.growth = 0  # runs are that long from the start
    c.inner.reduce = "mean"
    c.inner.valid_weight = 0.25  # at 0 it overfits: validation losses double
    c.inner.log_offset = 1e-2  # else the small losses late in a run hardly weigh
    c.inner.schedule = FieldReference(  # else it diverges past `num_steps`
        {"name": "linear", "peak": 1.0, "warmup": 0.05}, field_type=object
    )
    c.inner.stagger = True  # a joint restart would saw-tooth the loss
    c.inner.fresh = 1.0  # below it runs go on past their horizon
    c.inner.imitation = None  # ELO's expert leads for 5,000 meta-steps


def set_meta_training(c: ConfigDict, estimator: str):
    """Sets how it is learned, checked and recorded."""
    c.estimator = ConfigDict({"name": estimator, "num_workers": 8})
    c.estimator.args = ESTIMATORS[estimator]

    c.outer = ConfigDict()
    c.outer.num_steps = 800
    c.outer.learning_rate = 3e-3
    c.outer.end_learning_rate = 1e-4
    c.outer.warmup_steps = 50
    c.outer.weight_decay = 0.0
    c.outer.clip = 1.0
    c.outer.average = 0.99
    c.outer.balance = True

    c.validation = ConfigDict()
    c.validation.every = 100  # 0: export the last average of theta, unseen
    c.validation.valid_weight = 0.25
    c.validation.lengths = (200, 400)  # beyond the horizon too
    c.validation.blend = False
    c.validation.suite = config_dict.placeholder(str)  # the families above
    c.validation.log_offset = config_dict.placeholder(float)
    c.validation.last = 1.0  # the whole run counts
    c.validation.first_seed = 10_000  # no seed that tunes or reports
    c.validation.num_seeds = 8

    c.log = ConfigDict({"every": 10, "tensorboard": False})
    c.checkpoint = ConfigDict({"every": 100, "keep": 3})


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds."""
    if c.rule.name == "mlp":
        c.rule.args.hidden = 4
        c.rule.args.layers = 1
    c.family.args.width = 4
    c.family.args.base_width = 4
    c.family.args.depth = 1
    c.family.args.batch_size = 4
    c.inner.window = 2
    c.inner.horizon = (4, 6)
    c.estimator.num_workers = 2
    if "target" in c.estimator.args:
        c.estimator.args.target.baseline_steps = 2
    c.outer.num_steps = 60
    c.outer.warmup_steps = 5
    c.validation.every = 20
    c.validation.lengths = (4, 8)
    c.validation.num_seeds = 2
    c.log.every = 5
    c.checkpoint.every = 10
    return c
