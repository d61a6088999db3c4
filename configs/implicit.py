"""Weight decay for few and partly false labels, meta-learned by implicit gradients.

    python -m meta_train --config=implicit --workdir=runs/implicit

Hardware: 2 CPU cores, half a minute. Expected: a decay of 0.023 of the weights (the
decay of the biases hardly matters, and differs from seed to seed), and with it, after
800 steps, a mean validation loss of 0.777 on the 64 seeds from 5,000. Of fixed decays,
three a decade from 1e-4 to 1, 0.022 is best with 0.777; 1e-4 has 1.41, 0.1 has 0.896.
tests/meta_train/estimators/test_implicit.py has that comparison, smaller.
`python -m meta_train --help_config` explains keys, and those left at their defaults.
Variant, after a colon: `quick` (seconds, for tests; learns nothing).
"""

from ml_collections import ConfigDict

from common.names import variants


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "" or "quick"."""
    # About 125 examples: few enough to overfit.
    vary = {"examples": (0.1, 0.1), "label_noise": (0.2, 0.2)}
    c = ConfigDict(
        {
            "rule": {"name": "weight_decay"},  # its first decay is far too little
            "family": {
                "name": "softmax_regression",
                # The Hessian of a batch stands for that of all examples.
                "args": dict(dataset="digits", batch_size=256, vary=vary),
            },
            "inner": {
                "window": 100,  # steps before each estimate, to converge again
                "horizon": (800, 800),
                "valid_weight": 1.0,  # a loss on training data would want no decay
            },
            "estimator": {
                "name": "implicit",
                "args": {"solver": {"steps": 30, "damping": 1e-3}},
            },
            "outer": {
                "num_steps": 200,
                # Of logarithms: a tenth more or less a meta-step.
                "learning_rate": 0.1,
                "end_learning_rate": 1e-3,
                "warmup_steps": 10,
                "average": 0.9,
            },
            "validation": {"every": 50, "valid_weight": 1.0},
            "checkpoint": {"every": 50},
        }
    )
    return quick(c) if variants(variant, ["quick"]) else c


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds."""
    c.family.args.batch_size = 4
    c.inner.update(window=2, horizon=(4, 4))
    c.estimator.num_workers = 2
    c.estimator.args.solver.steps = 2
    c.outer.update(num_steps=20, warmup_steps=5)
    c.validation.update(every=10, lengths=(4,), num_seeds=2)
    c.log = {"every": 5}
    c.checkpoint.every = 10
    return c
