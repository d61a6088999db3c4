"""`mu_norm`: a small rule whose normalised steps you schedule, in four stages.

    python -m meta_train --config=release/mu_norm:first --workdir=runs/1
    python -m meta_train --config=release/mu_norm:second --workdir=runs/2
    python -m meta_train --config=release/mu_norm:third --workdir=runs/3
    python -m meta_train --config=release/mu_norm --workdir=runs/mu_norm

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

FIRST = {
    "rule": {
        "args": {
            "hidden": 8,
            "head": "normalised",
            "signal": False,  # of no use to a head that takes steps of one size
            "step_mult": 1.0,  # of which the schedule is the RMS
        }
    },
    "inner": {"schedule": {"peak": 1e-2}, "horizon": (60, 600)},
    "estimator": {"num_workers": 28},  # of 500 numbers a few pairs say enough
    "validation": {"every": 500},
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: a stage, "quick" or both."""
    return mu_mlp.recipe(variant, "mu_norm", FIRST, (3_500, 3_500, 1_200))
