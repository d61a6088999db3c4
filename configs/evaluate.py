"""Learned and tuned hand-designed optimizers on MLPs of 8x8 digits.

    python -m evaluation --config=configs/evaluate.py --workdir=runs/eval
    python -m evaluation --config=configs/evaluate.py --workdir=runs/eval \\
      --config.optimizers=mine=runs/demo/artifact,sgdm,adam,adamw

Hardware: 2 CPU cores, about a minute, half of it compiling. Baselines are tuned over 3
schedules x 13 learning rates on 5 seeds, anew for each column and length; learned
optimizers are not tuned. Expected of Adam over 200 steps: mean training loss .139,
final .0096, validation .10.
Variant: `quick` (seconds, for tests; says nothing).
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "" or "quick"."""
    if variant not in ("", "quick"):
        raise ValueError(f"unknown {variant=}; known: quick.")
    c = ConfigDict()
    # Baselines, released or exported rules, or label=one of these; commas between.
    c.optimizers = "demo,sgdm,adam,adamw"
    c.reference = "adam"  # speed-ups are in its steps

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

    c.num_steps = (200, 400)
    c.valid_every = 20
    # The first seed and their number; meta-validation has those from 10,000.
    c.tuning_seeds = (0, 5)
    c.reporting_seeds = (5_000, 10)
    return quick(c) if variant == "quick" else c


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds."""
    c.optimizers = "sgdm,adam"
    c.family.args.width = 4
    c.family.args.base_width = 4
    c.family.args.depth = 1
    c.family.args.batch_size = 4
    c.num_steps = (4, 8)
    c.valid_every = 2
    c.tuning_seeds = (0, 2)
    c.reporting_seeds = (1_000, 3)
    return c
