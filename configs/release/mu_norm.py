"""`mu_norm`, to be released: a small rule whose normalised steps you schedule.

    python -m meta_train --config=configs/release/mu_norm.py --workdir=runs/mu_norm

Hardware: 2 CPU cores, about 40 minutes, of them three compiling. Variants are those of
mu_mlp.py, of whose first stage it differs in what is set here.
"""

from ml_collections import ConfigDict

from configs.release import mu_mlp


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant, "" or "quick"."""
    if variant not in ("", "quick"):
        raise ValueError(f"unknown {variant=}; known: quick.")
    c = mu_mlp.get_config("start")
    c.rule.args.hidden = 8
    c.rule.args.head = "normalised"
    c.rule.args.signal = False  # of no use to a head that takes steps of one size
    c.rule.args.step_mult = 1.0  # of which the schedule is the RMS
    c.inner.schedule = {"name": "linear", "peak": 1e-2}
    c.inner.horizon = (60, 600)
    c.estimator.num_workers = 8  # of 400 numbers a few pairs say enough
    c.outer.num_steps = 8_000
    c.outer.end_learning_rate = 1e-5
    c.outer.average = 0.998
    c.validation.every = 500
    c.validation.blend = True
    return mu_mlp.quick(c) if variant else c
