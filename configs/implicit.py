"""Weight decay for few and partly false labels, meta-learned by implicit gradients.

    python -m meta_train --config=configs/implicit.py --workdir=runs/implicit

Hardware: 2 CPU cores, half a minute. Expected: a decay of .023 of the weights (that of
the biases hardly matters, and differs from seed to seed), and with it, after 800 steps,
a mean validation loss of .777 on the 64 seeds from 5,000. Of fixed decays, three a
decade from 1e-4 to 1, .022 is best with .777; 1e-4 has 1.41, .1 has .896.
tests/meta_train/estimators/test_implicit.py has that comparison, smaller.
Variant, after a colon: `quick` (seconds, for tests; learns nothing).
"""

from ml_collections import ConfigDict, config_dict

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
    c.rule = ConfigDict({"name": "weight_decay"})
    c.rule.args = {
        "baseline": "sgdm",
        "learning_rate": 0.1,
        "initial": 1e-4,  # far too little
    }

    c.theta = ConfigDict()
    c.theta.start = config_dict.placeholder(str)  # an artifact to go on from
    c.theta.frozen = ()  # leaves that are not learned, such as "log_decay/vector"

    c.family = ConfigDict({"name": "softmax_regression"})
    c.family.args = {
        "dataset": "digits",
        "resolution": None,  # as stored, 8x8
        "batch_size": 256,  # its Hessian stands for that of all examples
        "vary": {
            "examples": (0.1, 0.1),  # about 125 of them: few enough to overfit
            "label_noise": (0.2, 0.2),
        },
    }

    c.inner = ConfigDict()
    c.inner.window = 100  # of steps before each estimate, in which to converge again
    c.inner.horizon = (800, 800)
    c.inner.growth = 0
    c.inner.reduce = "mean"
    c.inner.valid_weight = 1.0  # a loss on training data would want no decay
    c.inner.log_offset = config_dict.placeholder(float)
    c.inner.schedule = None
    c.inner.stagger = True
    c.inner.fresh = 1.0
    c.inner.imitation = None


def set_meta_training(c: ConfigDict):
    """Sets how it is learned, checked and recorded."""
    c.estimator = ConfigDict({"name": "implicit", "num_workers": 8})
    c.estimator.args = {
        "solver": {
            "name": "cg",
            "steps": 30,
            "step_size": config_dict.placeholder(float),  # that of "neumann"
            "damping": 1e-3,
        }
    }

    c.outer = ConfigDict()
    c.outer.num_steps = 200
    c.outer.learning_rate = 0.1  # of logarithms: a tenth more or less a meta-step
    c.outer.end_learning_rate = 1e-3
    c.outer.warmup_steps = 10
    c.outer.weight_decay = 0.0
    c.outer.clip = 1.0
    c.outer.average = 0.9
    c.outer.balance = True

    c.validation = ConfigDict()
    c.validation.every = 50
    c.validation.valid_weight = 1.0
    c.validation.lengths = (800,)
    c.validation.blend = False
    c.validation.suite = config_dict.placeholder(str)  # the families above
    c.validation.log_offset = config_dict.placeholder(float)
    c.validation.last = 1.0  # the whole run counts
    c.validation.first_seed = 10_000  # no seed that tunes or reports
    c.validation.num_seeds = 8

    c.log = ConfigDict({"every": 10, "tensorboard": False})
    c.checkpoint = ConfigDict({"every": 50, "keep": 3})


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds."""
    c.family.args.batch_size = 4
    c.inner.window = 2
    c.inner.horizon = (4, 4)
    c.estimator.num_workers = 2
    c.estimator.args.solver.steps = 2
    c.outer.num_steps = 20
    c.outer.warmup_steps = 5
    c.validation.every = 10
    c.validation.lengths = (4,)
    c.validation.num_seeds = 2
    c.log.every = 5
    c.checkpoint.every = 10
    return c
