"""A learned optimizer for the mixture train-v1: eight families, one at a meta-step.

    python -m meta_train --config=mixture --workdir=runs/mixture
    python -m meta_train.plot runs/mixture

Hardware: 2 CPU cores, 8 to 10 minutes, 2 of them compiling. Expected: meta-validation
of every family falls within 1,000 meta-steps, as in docs/mixture.md.
`python -m meta_train --help_config` explains keys, and those left at their defaults;
`--config.family.weights.conv=0` leaves a family out.
Variant, after a colon: `quick` (seconds, for tests; two families, learns nothing).
"""

from ml_collections import ConfigDict

from common.names import variants


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "" or "quick"."""
    c = ConfigDict(
        {
            "rule": {
                "name": "mlp",
                "args": dict(hidden=16, clip=16.0, step_mult=1e-2, exp_mult=0.1),
            },
            "family": {"name": "train-v1"},
            "inner": {"window": 20, "horizon": (100, 200), "log_offset": 0.1},
            # With truncated gradients convolutions and MLPs got worse again.
            "estimator": {"name": "pes"},
            "outer": {"num_steps": 4_000, "learning_rate": 1e-3, "warmup_steps": 50},
            "validation": {"every": 500, "num_seeds": 4},
            "log": {"every": 20},
            "checkpoint": {"every": 200},
        }
    )
    return quick(c) if variants(variant, ["quick"]) else c


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds, and to two families that compile fast."""
    c.family = {"name": "smoke-v1"}
    c.rule.args.update(hidden=4, layers=1)
    c.inner.update(window=2, horizon=(4, 6))
    c.estimator.num_workers = 2
    c.outer.update(num_steps=10, warmup_steps=2)
    c.validation.update(every=5, lengths=(4,), num_seeds=2)
    c.log.every = 5
    c.checkpoint.every = 5
    return c
