"""`mu_mlp`: a rule that sets its own steps, meta-trained in four stages.

    python -m meta_train --config=release/mu_mlp:first --workdir=runs/1
    python -m meta_train --config=release/mu_mlp:second --workdir=runs/2
    python -m meta_train --config=release/mu_mlp:third --workdir=runs/3
    python -m meta_train --config=release/mu_mlp --workdir=runs/mu_mlp

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
tests, and learns nothing. `python -m meta_train --help_config` explains keys.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from common.names import variants

STAGES = ("first", "second", "third")
FIRST = {
    "rule": {
        "name": "mlp",
        "args": {
            "signal": True,  # it finds its step size by the noise of gradients
            "nominal": 1.0,  # it starts as Adam
            "clip": 16.0,
            "step_mult": 2e-2,
            "exp_mult": 0.5,
        },
    },
    "family": {"name": "train-v2"},
    "inner": {
        "window": 20,
        "horizon": (60, 1_000),
        "log_offset": 0.01,  # late losses weigh as much as early ones
        # Without it losses rose again at the ends of runs: annealing was not learned.
        "schedule": {"name": "linear", "peak": 1.0},
    },
    # The gradient is smoothed, as exact ones of rules that take long steps are lost in
    # their noise; of 2,600 numbers it needs many pairs to say anything. Truncated ones
    # learn faster, and then break deep networks: they do not see what the first steps
    # of a run spoil for later ones.
    "estimator": {"name": "nres", "num_workers": 512},
    "outer": {
        "learning_rate": 1e-3,
        "end_learning_rate": 1e-3,
        "warmup_steps": 100,
        "clip": 1e4,  # logarithms of losses are alike enough as they are
        # Else what is noisy, as deep networks are, hardly counts.
        "balance": False,
    },
    "validation": {
        "every": 1_000,
        "suite": "valid-v1",  # no shape that is trained on or reported
        "log_offset": 0.01,
        "last": 0.1,  # what runs end at
        "num_seeds": 4,
    },
    "log": {"every": 50},
    "checkpoint": {"every": 1_000},
}
# Losses that runs end at, and annealing.
SECOND = {
    "inner": {"reduce": "late", "horizon": (60, 600)},
    "outer": {"end_learning_rate": 1e-5},
}
# Exact gradients of what runs end at, in small steps. From Adam they reached a cliff
# within some hundred meta-steps, for what is good for shallow nets breaks deep ones,
# whose gradients there say nothing. From a rule that knows the cliff, as the first
# stages leave it, small steps go along it.
THIRD = {
    "inner": {"reduce": "late", "horizon": (100, 400), "stagger": False},
    "estimator": {"name": "full", "num_workers": 2, "args": {"clip": 5.0}},
    "outer": {
        "num_steps": 300,
        "learning_rate": 1.5e-4,
        "end_learning_rate": 1e-6,
        "warmup_steps": 20,
        "clip": 5.0,
    },
    "log": {"every": 20},
    "validation": {"every": 50, "blend": True},
    "checkpoint": {"every": 50},
}
# Bounded steps that warm up, in networks as users make them too. Under muP, where
# readouts start at zero, the first steps are harmless however long they are; elsewhere
# they are not, nor in embeddings of which few rows are looked up.
LAST = {
    "rule": {"args": {"bound": 5.0, "axes": "fans"}},
    "theta": {"changed": ("bound", "axes")},
    "inner": {
        "schedule": {"warmup": 0.05},
        "reduce": "late",
        "horizon": (60, 600),
    },
    "family": {
        "name": "train-v3",
        # These two take time to compile.
        "weights": {"mlp-standard": 0.0, "mlp-deep-standard": 0.0},
    },
    "outer": {
        "learning_rate": 6e-4,
        "end_learning_rate": 1e-5,
        "warmup_steps": 50,
    },
    # The last average is judged by the suite afterwards.
    "validation": {"suite": "valid-v2", "every": 0},
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: a stage, "quick" or both; the last is ""."""
    return recipe(variant, "mu_mlp", {}, (5_000, 4_700, 1_800))


def recipe(
    variant: str, name: str, first: Mapping[str, Any], num_steps: tuple[int, int, int]
) -> ConfigDict:
    """Returns the config of a variant of a recipe whose stages are those of `mu_mlp`.

    Args:
      variant: words joined by commas.
      name: of the rule, by which the artifacts of its stages are called.
      first: how its first stage differs from `FIRST`.
      num_steps: meta-steps of its first, second and last stages.
    """
    words = variants(variant, ["quick"], one_of=STAGES)
    c = ConfigDict(FIRST)
    c.update(first)
    c.outer.num_steps = num_steps["second" in words]
    if "second" in words:
        c.update(SECOND | {"theta": {"start": f"configs/release/{name}_first"}})
    elif "third" in words:
        c.update(THIRD | {"theta": {"start": f"configs/release/{name}_second"}})
    elif "first" not in words:
        c.update(LAST)
        c.outer.num_steps = num_steps[2]
        c.theta.start = f"configs/release/{name}_third"
    return quick(c) if "quick" in words else c


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds, and to two families that compile fast."""
    c.family = {"name": "smoke-v1"}
    c.theta = {}
    c.rule.args.hidden = 4
    c.inner.update(window=2, horizon=(4, 6))
    c.estimator.num_workers = 2
    c.outer.update(num_steps=10, warmup_steps=2)
    c.validation.update(every=5, suite="smoke-v1", lengths=(4,), num_seeds=2)
    c.log.every = 5
    c.checkpoint.every = 5
    return c
