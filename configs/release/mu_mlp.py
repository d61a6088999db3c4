"""`mu_mlp`: a rule that sets its own steps, meta-trained in four stages.

    python -m meta_train --config=configs/release/mu_mlp.py:first --workdir=runs/1
    python -m meta_train --config=configs/release/mu_mlp.py:second --workdir=runs/2
    python -m meta_train --config=configs/release/mu_mlp.py:third --workdir=runs/3
    python -m meta_train --config=configs/release/mu_mlp.py --workdir=runs/mu_mlp

Each starts from the artifact of the one before, which is kept beside this file, and
goes on where it was stopped. The first three are on `train-v2`; the last bounds its
steps, and is on `train-v3`, which has networks as users make them too.

Hardware and time: the first two, an NVIDIA H200, 12 minutes each, two of them compiling
(8.5 meta-steps a second, of 512 pairs of runs); the third, 2 CPU cores, half an hour,
five minutes of it compiling; the last, an NVIDIA H200, ten minutes, of which five are
compiling and 1,463 of its meta-steps were taken in the rest. Expected meta-validation
on `valid-v1`: -2.93 untrained, which is Adam on a linear schedule; -3.21, -3.27 and
-3.31 after the first three; on `valid-v2`, bounded, -3.26 before the last and -3.31
after it. Adam under muP and a cosine schedule has
-2.97 at the best rate for all tasks of `valid-v1` together, and -3.09 at the best for
each by itself. A variant `quick`, joined to another by a comma, takes seconds, for
tests, and learns nothing.
"""

from collections.abc import Callable

from ml_collections import ConfigDict, FieldReference, config_dict

from common.names import near

STAGES = ("first", "second", "third")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: a stage, "quick" or both; the last is ""."""
    return in_stages(variant, "mu_mlp", lambda c: None, (5_000, 4_700, 1_800))


def in_stages(
    variant: str,
    name: str,
    change: Callable[[ConfigDict], None],
    num_steps: tuple[int, int, int],
) -> ConfigDict:
    """Returns the config of a variant of a recipe that differs from this by `change`.

    Its first, second and last stages have `num_steps` meta-steps.

    Raises:
      ValueError: for an unknown variant, listing those known.
    """
    words = set(variant.split(",")) - {""}
    named = words & set(STAGES)
    if words - named - {"quick"} or len(named) > 1:
        known = [*filter(None, STAGES), "quick"]
        raise ValueError(
            f"unknown {variant=}; known: {', '.join(known)}.{near(variant, known)}"
        )
    c = ConfigDict({"seed": 0})
    set_rule(c)
    set_inner_training(c)
    set_meta_training(c)
    change(c)
    c.outer.num_steps = num_steps["second" in words]
    if "second" in words:
        set_second_stage(c)
        c.theta.start = f"configs/release/{name}_first"
    elif "third" in words:
        set_third_stage(c)
        c.theta.start = f"configs/release/{name}_second"
    elif "first" not in words:
        set_last_stage(c)
        c.outer.num_steps = num_steps[2]
        c.theta.start = f"configs/release/{name}_third"
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
    c.inner.horizon = (60, 1_000)
    c.inner.growth = 0
    c.inner.reduce = "mean"
    c.inner.valid_weight = 0.25  # lest it overfit; docs/ablations.md sees no effect
    c.inner.log_offset = 0.01  # late losses weigh as much as early ones
    # Without it losses rose again at the ends of runs: annealing was not learned.
    c.inner.schedule = FieldReference(
        {"name": "linear", "peak": 1.0}, field_type=object
    )
    c.inner.stagger = True
    c.inner.fresh = 1.0
    c.inner.imitation = None


def set_meta_training(c: ConfigDict):
    """Sets how it is learned, checked and recorded: the first stage.

    Its gradient is smoothed, as exact ones of rules that take long steps are lost in
    their noise; of 2,600 numbers it needs many pairs to say anything. Truncated ones
    learn faster, and then break deep networks: they do not see what the first steps of
    a run spoil for later ones.
    """
    c.estimator = ConfigDict({"name": "nres", "num_workers": 512})
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
    c.outer.learning_rate = 1e-3
    c.outer.end_learning_rate = 1e-3
    c.outer.warmup_steps = 100
    c.outer.weight_decay = 0.0
    c.outer.clip = 1e4  # logarithms of losses are alike enough as they are
    c.outer.average = 0.99
    c.outer.balance = False  # else what is noisy, as deep networks are, hardly counts

    c.validation = ConfigDict()
    c.validation.every = 1_000
    c.validation.blend = False
    c.validation.suite = "valid-v1"  # no shape that is trained on or reported
    c.validation.lengths = ()  # the suite's
    c.validation.valid_weight = 0.25
    c.validation.log_offset = 0.01
    c.validation.last = 0.1  # what runs end at
    c.validation.first_seed = 10_000  # no seed that tunes or reports
    c.validation.num_seeds = 4

    c.log = ConfigDict({"every": 50, "tensorboard": False})
    c.checkpoint = ConfigDict({"every": 1_000, "keep": 3})


def set_second_stage(c: ConfigDict):
    """Changes `c` to losses that runs end at, and anneals."""
    c.inner.reduce = "late"
    c.inner.horizon = (60, 600)
    c.outer.end_learning_rate = 1e-5


def set_third_stage(c: ConfigDict):
    """Changes `c` to exact gradients of what runs end at, in small steps.

    From Adam they reached a cliff within some hundred meta-steps, for what is good for
    shallow nets breaks deep ones, whose gradients there say nothing. From a rule that
    knows the cliff, as the first stages leave it, small steps go along it.
    """
    c.inner.reduce = "late"
    c.inner.horizon = (100, 400)
    c.inner.stagger = False
    c.estimator.name = "full"
    c.estimator.num_workers = 2
    with c.unlocked():
        c.estimator.args = ConfigDict({"clip": 5.0})
    c.outer.num_steps = 300
    c.outer.learning_rate = 1.5e-4
    c.outer.end_learning_rate = 1e-6
    c.outer.warmup_steps = 20
    c.outer.clip = 5.0
    c.log.every = 20
    c.validation.every = 50
    c.validation.blend = True
    c.checkpoint.every = 50


def set_last_stage(c: ConfigDict):
    """Changes `c` to bounded steps that warm up, in networks as users make them too.

    Under muP, where readouts start at zero, the first steps are harmless however long
    they are; elsewhere they are not, nor in embeddings of which few rows are looked up.
    """
    c.rule.args.bound = 5.0
    c.rule.args.axes = "fans"
    c.theta.changed = ("bound", "axes")
    c.inner.schedule = dict(c.inner.schedule) | {"warmup": 0.05}
    c.inner.reduce = "late"
    c.inner.horizon = (60, 600)
    c.family.name = "train-v3"
    for name in (
        "conv-standard",
        "resnet-standard",
        "mlp-deeper-standard",
        "lstm-standard",
        "transformer-standard",
        "bigram-standard",
    ):
        c.family.args[name] = 1.0
    for name in ("mlp-standard", "mlp-deep-standard"):  # which take time to compile
        c.family.args[name] = 0.0
    c.outer.learning_rate = 6e-4
    c.outer.end_learning_rate = 1e-5
    c.outer.warmup_steps = 50
    c.validation.suite = "valid-v2"
    c.validation.every = 0  # the last average is judged by it afterwards


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds, and to the two families that compile fastest."""
    for name in set(c.family.args) - {"quadratic", "softmax_regression"}:
        c.family.args[name] = 0.0
    c.theta.start = None
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
