"""`mu_norm`: a small rule whose normalised steps you schedule, in four stages.

    python -m meta_train --config=configs/release/mu_norm.py:first --workdir=runs/1
    python -m meta_train --config=configs/release/mu_norm.py:second --workdir=runs/2
    python -m meta_train --config=configs/release/mu_norm.py:third --workdir=runs/3
    python -m meta_train --config=configs/release/mu_norm.py --workdir=runs/mu_norm

Its stages and variants are those of mu_mlp.py, from which it differs in what is set
here.

Hardware and time: the first two, 7 CPU cores as one device each (`XLA_FLAGS=
--xla_force_host_platform_device_count=7`), 12 minutes each, one of them compiling; the
third, 2 CPU cores, half an hour; the last, 7 CPU cores as one device each, 9 minutes.
Of the second's 3,500 meta-steps 3,148 were taken. Expected meta-validation on
`valid-v1`: -2.88 untrained, -3.14 after the first and after the second, which is better
at other peaks, -3.19 after the third; on `valid-v2`, bounded, -3.17 before the last and
-3.19 after it.
"""

from ml_collections import ConfigDict

from configs.release import mu_mlp


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: a stage, "quick" or both."""
    return mu_mlp.in_stages(variant, "mu_norm", set_what_differs, (3_500, 3_500, 1_200))


def set_what_differs(c: ConfigDict):
    """Changes `c`, of the first stage of `mu_mlp`."""
    c.rule.args.hidden = 8
    c.rule.args.head = "normalised"
    c.rule.args.signal = False  # of no use to a head that takes steps of one size
    c.rule.args.step_mult = 1.0  # of which the schedule is the RMS
    c.inner.schedule = {"name": "linear", "peak": 1e-2}
    c.inner.horizon = (60, 600)
    c.estimator.num_workers = 28  # of 500 numbers a few pairs say enough
    c.validation.every = 500
