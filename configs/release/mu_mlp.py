"""`mu_mlp`, to be released: a rule that sets its own steps, trained on `train-v2`.

    python -m meta_train --config=configs/release/mu_mlp.py --workdir=runs/mu_mlp

Hardware: 2 CPU cores, about an hour, five minutes of it compiling; the same command
goes on where it was stopped. Expected: a meta-validation of -3.13 at meta-step 1,500.
Adam under muP and a cosine schedule has -2.97 at the best rate for all tasks of
`valid-v1` together, and -3.09 at the best for each by itself.
Variants, after a colon and joined by commas: `gpu`, many workers for an accelerator,
not measured yet; `quick` (seconds, for tests; learns nothing).
"""

from ml_collections import ConfigDict, FieldReference, config_dict


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "", "gpu", "quick" or "gpu,quick"."""
    words = set(variant.split(",")) - {""}
    if words - {"gpu", "quick"}:
        raise ValueError(f"unknown {variant=}; known: gpu, quick.")
    c = ConfigDict({"seed": 0})
    set_rule(c)
    set_inner_training(c)
    set_meta_training(c)
    if "gpu" in words:
        on_gpu(c)
    return quick(c) if "quick" in words else c


def set_rule(c: ConfigDict):
    """Sets what is learned."""
    c.rule = ConfigDict({"name": "mlp"})
    c.rule.args = {
        "hidden": 32,
        "layers": 2,
        "head": "exp",
        "eps": "relative",
        "time": ("relative",),
        "signal": True,  # it finds its step size by the noise of gradients
        "nominal": 1.0,  # it starts as Adam
        "clip": 16.0,
        "step_mult": 2e-2,
        "exp_mult": 0.5,
    }
    c.theta = ConfigDict()
    c.theta.start = config_dict.placeholder(str)  # an artifact to go on from
    c.theta.frozen = ()


def set_inner_training(c: ConfigDict):
    """Sets what it learns from."""
    c.family = ConfigDict({"name": "train-v2"})
    c.family.args = {  # weights by which they are drawn
        "mlp": 1.0,
        "softmax_regression": 1.0,
        "conv": 1.0,
        "autoencoder": 1.0,
        "recurrent": 1.0,
        "transformer": 1.0,
        "teacher_student": 1.0,
        "quadratic": 1.0,
        "mlp-deep": 1.0,
        "mlp-deeper": 1.0,
        "autoencoder-deep": 1.0,
    }

    c.inner = ConfigDict()
    c.inner.window = FieldReference(20, field_type=object)
    c.inner.horizon = (60, 600)
    c.inner.growth = 0
    c.inner.reduce = "mean"
    c.inner.valid_weight = 0.25  # at 0 it overfits
    c.inner.log_offset = 0.01  # late losses weigh as much as early ones
    # Without it losses rose again at the ends of runs: annealing was not learned.
    c.inner.schedule = FieldReference(
        {"name": "linear", "peak": 1.0}, field_type=object
    )
    c.inner.stagger = True
    c.inner.fresh = 1.0
    c.inner.imitation = None


def set_meta_training(c: ConfigDict):
    """Sets how it is learned, checked and recorded."""
    # Truncated gradients learn faster, and then break deep networks: they do not see
    # what the first steps of a run spoil for later ones.
    c.estimator = ConfigDict({"name": "nres", "num_workers": 8})
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
    c.outer.num_steps = 9_000
    c.outer.learning_rate = 1e-3
    c.outer.end_learning_rate = 1e-5
    c.outer.warmup_steps = 100
    c.outer.weight_decay = 0.0
    c.outer.clip = 1e4  # logarithms of losses are alike enough as they are
    c.outer.average = 0.998
    c.outer.balance = False  # else what is noisy, as deep networks are, hardly counts

    c.validation = ConfigDict()
    c.validation.every = 500
    c.validation.blend = True
    c.validation.suite = "valid-v1"  # no width or depth that is trained on or reported
    c.validation.lengths = ()  # the suite's
    c.validation.valid_weight = 0.25
    c.validation.log_offset = 0.01
    c.validation.last = 0.1  # what runs end at
    c.validation.first_seed = 10_000  # no seed that tunes or reports
    c.validation.num_seeds = 4

    c.log = ConfigDict({"every": 50, "tensorboard": False})
    c.checkpoint = ConfigDict({"every": 250, "keep": 3})


def on_gpu(c: ConfigDict):
    """Changes `c` to more workers and longer runs, which an accelerator can afford."""
    c.estimator.num_workers = 256
    c.inner.horizon = (60, 2_000)


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
    c.validation.suite = "smoke-v1"
    c.validation.lengths = (4,)
    c.validation.num_seeds = 2
    c.log.every = 5
    c.checkpoint.every = 5
    return c
