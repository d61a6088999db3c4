"""`mu_norm`, to be released: a small rule whose normalised steps you schedule.

    python -m meta_train --config=configs/release/mu_norm.py --workdir=runs/mu_norm

Hardware: 2 CPU cores, about 40 minutes, of them five compiling. Variants are those of
mu_mlp.py, from which it differs in what is set here.
"""

from ml_collections import ConfigDict

from configs.release import mu_mlp


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant of `mu_mlp`."""
    c = mu_mlp.get_config(variant)
    c.rule.args.head = "normalised"
    c.rule.args.signal = False  # of no use to a head that takes steps of one size
    c.rule.args.step_mult = 1.0  # of which the schedule is the RMS
    c.inner.schedule = {"name": "linear", "peak": 1e-2}
    if "quick" not in variant.split(","):
        c.rule.args.hidden = 8
        c.outer.num_steps = 8_000
    return c
