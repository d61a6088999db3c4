"""Two evaluations side by side: `python -m evaluation.join runs/a runs/b`.

What both share must be the same: tasks, seeds and looks. Optimizers of one name are
compared with each other, and all stand in one table; `--workdir` keeps their report.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from common import command_line
from evaluation import report, statistics
from evaluation.report import summary
from evaluation.runs import results
from evaluation.runs.results import Results
from evaluation.scores import standings

SAME = ("suite", "tasks", "seeds", "looks", "reference", "reference_lengths")
LATER = {"batch", "flops"}  # they follow from a task's program, and came later


def merged(runs: dict[str, Results]) -> Results:
    """Returns one evaluation of the optimizers of several, by label.

    An optimizer that does the same in all keeps its name, others are called
    `name@label`; the reference is that of the first.

    Raises:
      ValueError: naming what differs of that which must be the same.
    """
    first, *_ = runs.values()
    _check_same(runs)
    every = [name for run in runs.values() for name in run.settings["optimizers"]]
    shared = {
        name
        for name in every
        if every.count(name) == 1 or _alike(name, [*runs.values()])
    }
    cells, optimizers = {}, {}
    for label, run in runs.items():
        for name, settings in run.settings["optimizers"].items():
            new = name if name in shared else f"{name}@{label}"
            optimizers[new] = settings
            for task in first.settings["tasks"]:
                mine = run.cell(name, task)._replace(optimizer=new)
                cells.setdefault((task, new), mine)
    reference = first.settings["reference"]
    if reference is not None and reference not in shared:
        reference = f"{reference}@{next(iter(runs))}"
    ordered = [cells[task, x] for task in first.settings["tasks"] for x in optimizers]
    return Results(
        first.settings | {"optimizers": optimizers, "reference": reference},
        tuple(ordered),
        {key: sum(run.seconds[key] for run in runs.values()) for key in first.seconds},
        tuple(_notes(runs)),
        first.environment,
        _made(runs),
    )


def _check_same(runs: dict[str, Results]) -> None:
    """Raises ValueError for what differs and must be the same."""
    name, first = next(iter(runs.items()))
    for label, other in runs.items():
        for key in SAME:
            theirs, ours = (_setting(x, key) for x in (other, first))
            if theirs != ours:
                raise ValueError(
                    f"{label} has another {key}: {theirs}, against {ours} of {name}; "
                    "runs that are compared must share it."
                )


def _setting(run: Results, key: str) -> Any:
    """Returns a setting; of tasks, without what older evaluations do not say."""
    if key != "tasks":
        return run.settings[key]
    return {
        task: {name: x for name, x in setting.items() if name not in LATER}
        for task, setting in run.settings["tasks"].items()
    }


def _notes(runs: dict[str, Results]) -> list[str]:
    """Returns the notes of each, after how their machines and tuning differ."""
    tunings = {label: run.settings["tuning"] for label, run in runs.items()}
    machines = {label: run.environment for label, run in runs.items()}
    notes = [f"{label}: {x}" for label, run in runs.items() for x in run.notes]
    for words, each in {
        "on other machines": machines,
        "tuned differently": tunings,
    }.items():
        first = next(iter(each.values()))
        if any(x != first for x in each.values()):
            notes.insert(0, f"{words}: {each}.")
    return notes


def _made(runs: dict[str, Results]) -> dict[str, str]:
    """Returns when and by what each was made, as far as it is known."""
    found: dict[str, list[str]] = {}
    for label, run in runs.items():
        for key, value in run.made.items():
            found.setdefault(key, []).append(f"{label}: {value}")
    return {key: "; ".join(texts) for key, texts in found.items()}


def differences(results: Results, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yields how the second of each pair does against the first."""
    tasks = list(results.settings["tasks"])
    for candidate, other in pairs:
        for metric in ("mean", "final", "valid", "test"):
            a, b = (
                standings.runs(results, x, metric, tasks) for x in (candidate, other)
            )
            ratio = statistics.geometric(
                statistics.stratified(statistics.loss_ratio(b, a))
            )
            chance = statistics.probability_of_improvement(b, a)
            yield (
                f"{other} against {candidate}, {standings.REPORTED[metric].title}: "
                f"{_bounds(ratio)} times, lower with probability {_bounds(chance)}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints, and reports if asked to, how evaluations differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "runs", nargs="+", type=command_line.path, help="of evaluations"
    )
    parser.add_argument(
        "--workdir", type=command_line.path, help="where a report of all goes"
    )
    given = parser.parse_args(arguments)
    labels = _labels(given.runs)
    console = Console(highlight=False)
    with command_line.ending():
        if len(labels) < 2:
            raise ValueError("need at least two evaluations to compare.")
        found = {label: results.load(path) for label, path in labels.items()}
        both = merged(found)
        if given.workdir:
            report.write(both, given.workdir, console=console)
        else:
            report.show(summary.summary(both), console)
    for line in differences(both, _pairs(both, list(labels))):
        report.say(line, console)


def _labels(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns {label: path}: the names of directories, or paths where these clash."""
    names = [path.resolve().name for path in paths]
    unique = len({*names}) == len(names)
    return dict(zip(names if unique else map(str, paths), paths, strict=True))


def _pairs(both: Results, labels: list[str]) -> list[tuple[str, str]]:
    """Returns optimizers that differ between the first evaluation and others."""
    names = both.settings["optimizers"]
    first, *others = labels
    return [
        (name, f"{name.removesuffix(first)}{label}")
        for name in names
        if name.endswith(f"@{first}")
        for label in others
        if f"{name.removesuffix(first)}{label}" in names
    ]


def _alike(name: str, every: list[Results]) -> bool:
    """Returns whether an optimizer has the same curves wherever it is."""
    having = [x for x in every if name in x.settings["optimizers"]]
    tasks = having[0].settings["tasks"]
    sets = [
        [
            {k: x.curves for k, x in results.cell(name, task).chosen.items()}
            for task in tasks
        ]
        for results in having
    ]
    return all(_equal(sets[0], other) for other in sets[1:])


def _equal(a: Any, b: Any) -> bool:
    """Returns whether trees of arrays are the same."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def _bounds(interval: statistics.Interval) -> str:
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


if __name__ == "__main__":
    main()
