"""Meta-gradient estimators against the exact gradient, on a tiny and a small MLP.

    python -m meta_train.study.compare --config=compare_estimators \
      --workdir=runs/compare --page=docs/estimators.md

Hardware: 2 CPU cores, about 70 minutes, 12 of them compiling. Expected:
the tables of docs/estimators.md. The same command goes on where it was stopped, between
problems. `Problem` and `_plan` in meta_train/study/compare.py explain keys,
`python -m meta_train --help_config` those of `inner`, `rule` and estimators.
Variant, after a colon: `quick` (a minute, for tests; says nothing).
"""

from typing import Any

from ml_collections import ConfigDict

from common.names import variants

# An estimate may be a whole run. Replicas are measured for more horizons in a row where
# estimates are noisy and cheap.
WHOLE = {"full": "full", "full_smoothed": "smoothed", "es": "es"}
FAST = ("bootstrapped_pes", "es", "truncated_es", "pes", "nres")
LABELS = """full full_smoothed truncated multi_step smoothed combined bootstrapped
bootstrapped_pes es truncated_es pes nres""".split()
START = "configs/compare_estimators_start"  # the `demo` of then
IRIS = {  # 4-3-3: 27 parameters
    "family": {
        "name": "mlp",
        "args": dict(dataset="iris", width=3, base_width=3, depth=1, batch_size=16),
    },
    "window": 5,
    "horizon": 20,  # one for all runs, so that all estimate one gradient
    "num_workers": 64,  # of an estimate
    "skip": 2,  # horizons before those that count; the first run started staggered
    "replicas": 128,
    "exact": 192,  # replicas of `full` that make the exact gradient
    "estimators": tuple(LABELS),
}
DIGITS = IRIS | {  # 64-32-32-10, the network of demo.py
    "family": {
        "name": "mlp",
        "args": dict(dataset="digits", width=32, base_width=32, depth=2, batch_size=64),
    },
    "window": 20,
    "horizon": 100,
    "num_workers": 8,
    "start": START,
    "replicas": 48,
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "" or "quick"."""
    c = ConfigDict(
        {
            "seed": 0,
            "rule": {  # that of demo.py before its steps were bounded
                "name": "mlp",
                "args": dict(hidden=16, clip=16.0, step_mult=3e-2, exp_mult=0.1),
            },
            "inner": {"log_offset": 1e-2},  # problems set windows and horizons
            "estimators": {label: estimator(label) for label in LABELS},
            "problems": {
                "iris_start": IRIS,
                "iris_demo": IRIS | {"start": START},
                "digits_demo": DIGITS,
                # Here even the full gradient is lost in its noise: what else still has
                # a signal?
                "digits_long": DIGITS
                | {
                    "horizon": 200,
                    "estimators": ("full", "truncated", "es", "pes", "nres"),
                },
            },
        }
    )
    return quick(c) if variants(variant, ["quick"]) else c


def estimator(label: str) -> dict[str, Any]:
    """Returns the section of an estimator."""
    return {
        "name": WHOLE.get(label, label),
        "whole": label in WHOLE,
        "horizons": 8 if label in FAST else 1,
    }


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to one problem that takes seconds."""
    c.rule.args.update(hidden=4, layers=1)
    for label in set(c.problems) - {"iris_start"}:
        del c.problems[label]
    p = c.problems["iris_start"]
    p.update(window=2, horizon=4, num_workers=2, skip=1, replicas=4, exact=4)
    p.estimators = ("full", "truncated", "bootstrapped", "pes")
    c.estimators.bootstrapped.args = {"target": {"baseline_steps": 2}}
    return c
