"""A learned optimizer for small MLPs on 8x8 digits, in minutes on a laptop CPU.

    python -m meta_train --config=demo --workdir=runs/demo

Hardware: 2 CPU cores, 2 to 6 minutes. Expected on the reporting seeds of evaluate.py:
mean training loss 0.12 over 200 steps, final 0.005 to 0.006, validation 0.2.
`python -m meta_train --help_config` explains keys, and those left at their defaults.
Variants, after a colon and joined by commas: an estimator, such as `pes`; `quick`
(seconds, for tests; learns nothing).
"""

from ml_collections import ConfigDict

from common.names import variants
from meta_train.estimators import ESTIMATORS


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant, such as "" or "quick,pes"."""
    words = variants(variant, ["quick"], one_of=ESTIMATORS)
    (estimator,) = words - {"quick"} or {"truncated"}
    task = dict(dataset="digits", width=32, base_width=32, depth=2, batch_size=64)
    args = {
        **dict(hidden=16, step_mult=3e-2, exp_mult=0.1, axes="fans"),
        "clip": 4.0,  # larger inputs, as in embeddings, it has not seen
        "bound": 2.0,  # else what has no gradient moves; at 5 deep networks spike
    }
    rule = {"name": "mlp", "args": args}
    if estimator == "implicit":  # for theta that enters what is minimised
        args = dict(baseline="adam", learning_rate=1e-2)
        rule = {"name": "weight_decay", "args": args}
    c = ConfigDict(
        {
            "rule": rule,
            "family": {"name": "mlp", "args": task},
            "inner": {
                # Memory grows linearly with it. Targets are far, 80 steps: with 20 and
                # 10 steps rules may still blow up after 200 meta-steps.
                "window": 5 if "bootstrapped" in estimator else 20,
                "horizon": (150, 300),  # log-uniform in between, both included
                "log_offset": 1e-2,  # else the small losses late in a run hardly weigh
                # Else it diverges past `num_steps`.
                "schedule": {"name": "linear", "peak": 1.0, "warmup": 0.05},
            },
            "estimator": {"name": estimator},
            "outer": {"num_steps": 800, "learning_rate": 3e-3, "warmup_steps": 50},
            "validation": {"lengths": (200, 400)},  # beyond the horizon too
        }
    )
    return quick(c) if "quick" in words else c


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds."""
    if c.rule.name == "mlp":
        c.rule.args.update(hidden=4, layers=1)
    c.family.args.update(width=4, base_width=4, depth=1, batch_size=4)
    c.inner.update(window=2, horizon=(4, 6))
    c.estimator.num_workers = 2
    if "bootstrapped" in c.estimator.name:
        c.estimator.args = {"target": {"baseline_steps": 2}}
    c.outer.update(num_steps=60, warmup_steps=5)
    c.validation.update(every=20, lengths=(4, 8), num_seeds=2)
    c.log = {"every": 5}
    c.checkpoint = {"every": 10}
    return c
