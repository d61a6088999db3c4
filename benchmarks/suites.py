"""Runs every task of suites with tuned Adam: `python benchmarks/suites.py [SUITE...]`.

Adam's rate is tuned on one seed, under a cosine schedule and muP, and run on others.
Final losses and seconds go into `tests/data/suites.json`, where tests compare later
code with them, and into `docs/suites.md`.
"""

import json
import pathlib
import sys
import time
from typing import Any

import numpy as np

from evaluation import curves, tuning
from lopt import mup
from lopt.baselines import BASELINES
from tasks import suites
from tasks.base import TaskFamily

ROOT = pathlib.Path(__file__).parent.parent
RECORD = ROOT / "tests" / "data" / "suites.json"
PAGE = ROOT / "docs" / "suites.md"
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SPACE = {"learning_rate": RATES, "schedule": ("cosine",)}
TUNING, REPORTING = (0,), (1_000, 1_001, 1_002, 1_003, 1_004)
EVERY = 50  # updates between looks at the validation loss


def judged(family: TaskFamily, num_steps: int) -> dict[str, Any]:
    """Returns Adam's best rate, its losses on the reporting seeds, and seconds."""
    info = mup.infer(family.shapes, family.base_shapes)

    def adam(**args: Any) -> Any:
        return BASELINES["muadam"].build(info=info, **args)

    runner = curves.runner(curves.track(family, valid_every=EVERY), adam)
    choice = tuning.tune(runner, SPACE, num_steps=num_steps, seeds=TUNING)["final"]
    began = time.perf_counter()
    found = curves.run(
        runner,
        num_steps=num_steps,
        seeds=REPORTING,
        hyperparameters=[choice.hyperparameters],
    )
    final = tuning.METRICS["final"](found)[0]
    return {
        "learning_rate": choice.hyperparameters["learning_rate"],
        "first": float(found.train[0, :, 0].mean()),
        "final": float(final.mean()),
        "spread": float(np.ptp(final)),
        "valid": float(found.valid[0, :, -1].mean()),
        "seconds": round(time.perf_counter() - began, 1),
    }


def page(record: dict[str, dict[str, Any]]) -> str:
    """Returns the record as Markdown."""
    lines = [
        "# Suites",
        "",
        "Adam under muP and a cosine schedule, its rate tuned on another seed: means",
        "over five seeds of the first, final (last 10 updates) and validation loss,",
        "and the seconds of all five, compiling included, on two CPU cores. Made by",
        "`python benchmarks/suites.py`; `python -m tasks` prints sizes.",
    ]
    for name, tasks in record.items():
        head = "| task | steps | rate | first | final | validation | seconds |"
        lines += ["", f"## {name}", "", head, "|---|---|---|---|---|---|---|"]
        for task, x in tasks.items():
            steps = suites.SUITES[name][task].num_steps
            lines.append(
                f"| {task} | {steps:,} | {x['learning_rate']:g} | {x['first']:.3g} | "
                f"{x['final']:.3g} | {x['valid']:.3g} | {x['seconds']:.0f} |"
            )
    return "\n".join(lines) + "\n"


def main(wanted: list[str]) -> None:
    """Runs suites, all by default, and records each task once it has ended."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in wanted or suites.SUITES:
        for task, one in suites.SUITES[name].items():
            found = judged(suites.family(one), one.num_steps)
            record.setdefault(name, {})[task] = found
            print(name, task, found, flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.write_text(page(record))


if __name__ == "__main__":
    main(sys.argv[1:])
