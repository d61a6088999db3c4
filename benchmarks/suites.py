"""Runs every task of suites with tuned Adam: `python benchmarks/suites.py [SUITE...]`.

Adam's rate is tuned on two seeds, under a cosine schedule and muP, and run on others.
Losses, seconds and the hashes of texts go into `tests/data/suites.json`, where tests
compare later code with them, and into `docs/suites.md`. Tasks for an accelerator are
not run.
"""

import json
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
import optax

from evaluation.runs import curves
from lopt import mup
from lopt.baselines import BASELINES
from tasks import data, suites
from tasks.base import TaskFamily, gradient

ROOT = pathlib.Path(__file__).parent.parent
RECORD = ROOT / "tests" / "data" / "suites.json"
PAGE = ROOT / "docs" / "suites.md"
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
TUNING, REPORTING = (0, 1), (1_000, 1_001, 1_002, 1_003, 1_004)
FINAL = 10  # updates at the end whose mean loss is the final one
EVERY = 50  # updates between looks at the validation loss
TEXTS = ("stdlib", "topics")  # they differ from Python to Python
UNRUN = "for an accelerator | – | – | – | – |"


def beginning(family: TaskFamily) -> dict[str, float]:
    """Returns the loss and the gradient's norm at the start of one run."""

    @jax.jit
    def start(key: jax.Array, arrays: Any) -> tuple[jax.Array, jax.Array]:
        task = family.task(family.sample(key))
        batch = task.batch(arrays, key, "train")
        loss, _, grad = gradient(task, task.init(key), key, batch, task.state)
        return loss, optax.tree.norm(grad)

    loss, norm = start(jax.random.key(0), family.data)
    return {"loss": float(loss), "grad_norm": float(norm)}


def runner(family: TaskFamily) -> curves.Runner:
    """Returns Adam under muP on a family."""
    info = mup.infer(family.shapes, family.base_shapes)

    def adam(**args: Any) -> Any:
        return BASELINES["muadam"].build(info=info, **args)

    return curves.runner(curves.track(family, valid_every=EVERY), adam)


def tuned(adam: curves.Runner, num_steps: int) -> float:
    """Returns the rate with the lowest final loss on the tuning seeds."""
    trials = [{"learning_rate": rate, "schedule": "cosine"} for rate in RATES]
    found = curves.run(adam, num_steps=num_steps, seeds=TUNING, hyperparameters=trials)
    finals = np.where(found.finite, found.train[..., -FINAL:].mean(-1), np.inf)
    return RATES[int(finals.mean(-1).argmin())]


def reached(adam: curves.Runner, num_steps: int, rate: float) -> dict[str, Any]:
    """Returns Adam's losses on the reporting seeds, and seconds of all of them."""
    began = time.perf_counter()
    found = curves.run(
        adam,
        num_steps=num_steps,
        seeds=REPORTING,
        hyperparameters=[{"learning_rate": rate, "schedule": "cosine"}],
    )
    final = found.train[0, :, -FINAL:].mean(-1)
    return {
        "first": float(found.train[0, :, 0].mean()),
        "final": float(final.mean()),
        "finals": [float(x) for x in final],
        "valid": float(found.valid[0, :, -1].mean()),
        "seconds": round(time.perf_counter() - began, 1),
    }


def judged(family: TaskFamily, num_steps: int) -> dict[str, Any]:
    """Returns how a task starts, Adam's best rate, and what it reaches."""
    adam = runner(family)
    rate = tuned(adam, num_steps)
    found = {"start": beginning(family), "learning_rate": rate}
    return found | reached(adam, num_steps, rate)


def page(record: dict[str, dict[str, Any]]) -> str:
    """Returns the record as Markdown."""
    lines = [
        "# Suites",
        "",
        "Adam under muP and a cosine schedule, its rate tuned on two seeds. Means over",
        "five others of the first, final (last 10 updates) and validation loss, and",
        "the seconds of all five, compiling included, on two CPU cores. Made by",
        "`python benchmarks/suites.py`; `python -m tasks` prints sizes.",
    ]
    for name in suites.SUITES:
        head = "| task | steps | rate | first | final | validation | seconds |"
        lines += ["", f"## {name}", "", head, "|---|---|---|---|---|---|---|"]
        for task, entry in suites.SUITES[name].items():
            line = f"| {task} | {entry.num_steps:,} | "
            lines.append(
                line + (UNRUN if entry.accelerator else row(record[name][task]))
            )
    return "\n".join(lines) + "\n"


def row(found: dict[str, Any]) -> str:
    """Returns what a task's record says, as the end of a row of Markdown."""
    losses = " | ".join(f"{found[x]:.3g}" for x in ("first", "final", "valid"))
    return f"{found['learning_rate']:g} | {losses} | {found['seconds']:.0f} |"


def main(wanted: list[str]) -> None:
    """Runs suites, all by default, and records each task once it has ended."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    record["texts"] = {name: data.digest(name) for name in TEXTS}
    for name in wanted or suites.SUITES:
        for task, entry in suites.on_cpu(suites.SUITES[name]).items():
            found = judged(suites.family(entry), entry.num_steps)
            record.setdefault(name, {})[task] = found
            print(name, task, found, flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
