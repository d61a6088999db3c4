"""A learned optimizer for the mixture train-v1: eight families, one at a meta-step.

    python -m meta_train --config=configs/mixture.py --workdir=runs/mixture
    python -m meta_train.plot runs/mixture

Hardware: 2 CPU cores, 8 to 10 minutes, 2 of them compiling. Expected: meta-validation
of every family falls within 1,000 meta-steps, as in docs/mixture.md.
Variant, after a colon: `quick` (seconds, for tests; two families, learns nothing).
"""

from ml_collections import ConfigDict, FieldReference, config_dict

from common.names import near


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "" or "quick"."""
    if variant not in ("", "quick"):
        known = ["quick"]
        raise ValueError(
            f"unknown {variant=}; known: {', '.join(known)}.{near(variant, known)}"
        )
    c = ConfigDict({"seed": 0})
    set_inner_training(c)
    set_meta_training(c)
    return quick(c) if variant == "quick" else c


def set_inner_training(c: ConfigDict):
    """Sets what is learned, and what it learns from."""
    c.rule = ConfigDict({"name": "mlp"})
    c.rule.args = {
        "hidden": 16,
        "layers": 2,
        "head": "exp",
        "eps": "relative",
        "time": ("relative",),
        "signal": False,
        "nominal": 0.0,
        "clip": 16.0,
        "step_mult": 1e-2,
        "exp_mult": 0.1,
    }
    c.theta = ConfigDict()
    c.theta.start = config_dict.placeholder(str)  # an artifact to go on from
    c.theta.frozen = ()  # leaves that are not learned, such as "decays"

    c.family = ConfigDict({"name": "train-v1"})
    c.family.args = {  # weights by which they are drawn
        "mlp": 1.0,
        "softmax_regression": 1.0,
        "conv": 1.0,
        "autoencoder": 1.0,
        "recurrent": 1.0,
        "transformer": 1.0,
        "teacher_student": 1.0,
        "quadratic": 1.0,
    }

    c.inner = ConfigDict()
    # Or a pair, of which each run draws one.
    c.inner.window = FieldReference(20, field_type=object)
    c.inner.horizon = (100, 200)
    c.inner.growth = 0
    c.inner.reduce = "mean"
    c.inner.valid_weight = 0.25
    c.inner.log_offset = 0.1
    c.inner.schedule = None
    c.inner.stagger = True
    c.inner.fresh = 1.0  # below it runs go on past their horizon
    c.inner.imitation = None  # ELO's expert leads for 5,000 meta-steps


def set_meta_training(c: ConfigDict):
    """Sets how it is learned, checked and recorded."""
    # With truncated gradients convolutions and MLPs got worse again (docs/mixture.md).
    c.estimator = ConfigDict({"name": "pes", "num_workers": 8})
    c.estimator.args = {
        "noise": {
            "sigma": 0.01,
            "per_leaf": False,
            "antithetic": True,
            "shared_batches": True,
            "sign": False,
            "clip": config_dict.placeholder(float),
        }
    }

    c.outer = ConfigDict()
    c.outer.num_steps = 4_000
    c.outer.learning_rate = 1e-3
    c.outer.end_learning_rate = 1e-4
    c.outer.warmup_steps = 50
    c.outer.weight_decay = 0.0
    c.outer.clip = 1.0
    c.outer.average = 0.99
    c.outer.balance = True

    c.validation = ConfigDict()
    c.validation.every = 500
    c.validation.valid_weight = 0.25
    c.validation.lengths = (200,)
    c.validation.blend = False
    c.validation.suite = config_dict.placeholder(str)  # the families above
    c.validation.log_offset = config_dict.placeholder(float)
    c.validation.last = 1.0  # the whole run counts
    c.validation.first_seed = 10_000
    c.validation.num_seeds = 4

    c.log = ConfigDict({"every": 20, "tensorboard": False})
    c.checkpoint = ConfigDict({"every": 200, "keep": 3})


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds, and to the two families that compile fastest."""
    for name in set(c.family.args) - {"quadratic", "softmax_regression"}:
        c.family.args[name] = 0.0
    c.rule.args.hidden = 4
    c.rule.args.layers = 1
    c.inner.window = 2
    c.inner.horizon = (4, 6)
    c.estimator.num_workers = 2
    c.outer.num_steps = 10
    c.outer.warmup_steps = 2
    c.validation.every = 5
    c.validation.lengths = (4,)
    c.validation.num_seeds = 2
    c.log.every = 5
    c.checkpoint.every = 5
    return c
