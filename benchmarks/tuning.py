"""Tells how low baselines get by the trials they are tuned over, by two protocols.

    python -m benchmarks.tuning docs/tuning [--workdir runs/tuning]

On every task of `in-dist-v1`; the seeds reported here are not reported elsewhere.
Prints ratios to 80 trials of a search, and writes `docs/tuning.json`, where baselines
and protocols that are not asked for stay as they were. Runs are kept.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import command_line
from evaluation.runs import bench, cells
from evaluation.runs.cells import Plan
from evaluation.runs.store import opened
from evaluation.runs.tuning import METRICS, Tuning, choose
from lopt.baselines import BASELINES
from tasks import suites

SUITE, LOOKS = "in-dist-v1", 20
BUDGETS = (5, 10, 20, 40, 80)
NAMES = ("adam", "adamw", "muon")
TUNING = tuple(range(30_000, 30_005))
REPORTED = tuple(range(6_100, 6_110))


def finals(
    place: bench.Place, name: str, protocol: str, maker: bench.Bench
) -> dict[str, Any]:
    """Returns final losses by budget: of the trials, and of the best on other seeds."""
    stand, _ = cells.stand_at(BASELINES[name], place)
    plan = Plan(Tuning(protocol, max(BUDGETS), TUNING), REPORTED, None, ())
    tried, _ = cells.tuned(stand, place.num_steps, plan, maker)
    values = tried.values["final"]
    best = [
        choose(values[:k], tried.hyperparameters, BASELINES[name].space)
        for k in BUDGETS
    ]
    found = maker.run(
        stand,
        num_steps=place.num_steps,
        seeds=REPORTED,
        hyperparameters=[x.hyperparameters for x in best],
    )
    return {
        "tuning": [x.score for x in best],
        "reported": METRICS["final"](found).mean(-1).tolist(),
        "chosen": [x.hyperparameters for x in best],
    }


def main(args: Sequence[str] | None = None) -> None:
    """Runs what is not kept, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--workdir", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--protocols", default="search,narrow")
    given = parser.parse_args(args)
    kept = given.page.with_suffix(".json")
    found: dict[str, Any] = {}
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
    with opened(given.workdir) as store:
        maker = bench.Bench(store)
        for task, entry in suites.SUITES[SUITE].items():
            family = suites.family(entry)
            place = bench.place(task, family, num_steps=entry.num_steps, looks=LOOKS)
            for name in given.names.split(","):
                for protocol in given.protocols.split(","):
                    losses = finals(place, name, protocol, maker)
                    found.setdefault(name, {}).setdefault(protocol, {})[task] = losses
                    text = " ".join(f"{x:.4g}" for x in losses["reported"])
                    command_line.say(f"{task} {name} {protocol}: {text}")
    for name, protocols in found.items():
        base = np.log([x["reported"][-1] for x in protocols["search"].values()])
        for protocol, tasks in protocols.items():
            for kind in ("reported", "tuning"):
                logs = np.log([x[kind] for x in tasks.values()])
                ratio = np.exp((logs - base[:, None]).mean(0))
                print(name, protocol, kind, ratio.round(3))
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
