"""Learned and tuned hand-designed optimizers on the tasks of a suite.

    python -m evaluation --config=evaluate --workdir=runs/eval
    python -m evaluation --config=evaluate --workdir=runs/eval \\
      --config.optimizers=mine=runs/demo/artifact,sgdm,adam --config.suite=in-dist-v1

Hardware: 2 CPU cores, two to four minutes for `digits-v1`, most of it compiling, and
half an hour for nine optimizers on `in-dist-v1` with 5 seeds and 20 trials. Expected
on mlp-digits-200 of Adam: training loss, mean 0.14 and final 0.01, test 0.04.
The directory keeps every run: a command that was stopped goes on, and an optimizer may
be added. `judge` in evaluation/__main__.py and `Tuning` in evaluation/runs/tuning.py
explain all keys, `python -m tasks` lists suites. Variants: `transfer` tunes at the
smallest width, depth or length of a suite that grows (`wider-v1`, `deeper-v1`,
`longer-v1`); `quick` (seconds, for tests; says nothing).
"""

from ml_collections import ConfigDict

from common.names import variants


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant: "", "transfer" or "quick"."""
    words = variants(variant, [], one_of=["transfer", "quick"])
    c = ConfigDict(
        {
            # Baselines, released or exported rules, `module:attribute`, or label=one of
            # these; commas between.
            "optimizers": "demo,sgdm,adam,adamw",
            "suite": "digits-v1",
            # The first seed and their number; meta-validation has those from 10,000.
            "seeds": (5_000, 10),
        }
    )
    if "transfer" in words:
        c.optimizers = "demo,muadam,adam"
        c.suite = "wider-v1"
        c.seeds = (5_000, 5)
        c.reference = "muadam"
        c.tuning = {"transfer": True}
    return quick(c) if "quick" in words else c


def quick(c: ConfigDict) -> ConfigDict:
    """Returns `c` shrunk to seconds."""
    c.optimizers = "sgdm,adam"
    c.suite = "smoke-v1"
    c.seeds = (1_000, 3)
    c.looks = 4
    c.tuning = {"trials": 4, "seeds": (0, 2)}
    return c
