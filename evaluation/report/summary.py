"""What an evaluation says: verdict, standings and tasks, as JSON values."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from evaluation import statistics
from evaluation.report import verdicts
from evaluation.report.content import (
    Comparison,
    Control,
    Row,
    Summary,
    Task,
    TaskSpeedup,
    Values,
)
from evaluation.runs.results import Results
from evaluation.runs.tuning import DECAY, METRICS
from evaluation.scores import budgets, standings, time_to_target
from evaluation.scores.standings import REPORTED

EXPLAINED = {
    "mean": "mean over all steps of the training loss, each after its update and on "
    "the next batch",
    "final": f"last of the training losses, smoothed by a moving average of decay "
    f"{DECAY}, for all alike",
    "best": "least of the smoothed training losses",
    "valid": "mean over the inner_valid split, after the last update",
    "test": "mean over the test split, after the last update, of what was tuned for "
    "the validation loss",
    "train_accuracy": "share of the next training batch classified right, after the "
    "last update, of what was tuned for the final training loss",
    "accuracy": "share of the inner_valid split classified right, as above",
    "test_accuracy": "share of the test split classified right, as above",
}


def summary(results: Results, *, title: str | None = None) -> Summary:
    """Returns all numbers of an evaluation but the curves.

    Args:
      results: from `evaluate`.
      title: of the report; by default it names the suite.
    """
    aims = time_to_target.targets(results)
    numbers = Summary(
        verdict=[],
        title=title or f"Optimizers on {results.settings['suite']}",
        metrics=EXPLAINED,
        standings=standings.standings(results),
        tasks={
            task: Task(aims.get(task), list(_rows(results, task)))
            for task in results.settings["tasks"]
        },
        comparisons=list(_comparisons(results)),
        control=list(_control(results)),
        settings=results.settings,
        budget=budgets.budgets(results),
        seconds=results.seconds,
        notes=list(results.notes),
        environment=results.environment,
        made=results.made,
    )
    numbers = _finite(numbers)
    return numbers._replace(verdict=verdicts.verdicts(numbers))


def _rows(results: Results, task: str) -> Iterator[Row]:
    """Yields what each optimizer does on a task."""
    for name, settings in results.settings["optimizers"].items():
        cell = results.cell(name, task)
        row = Row(name, settings["baseline"], cell.error)
        if cell.error:
            yield row
            continue
        metrics = {}
        for metric in REPORTED:
            values = standings.runs(results, name, metric, [task])[0]
            metrics[metric] = Values(*statistics.interval(values), values.tolist())
        finite = standings.finite(cell)
        seeds = np.array(results.settings["seeds"])
        chosen = {k: x.choice for k, x in cell.chosen.items() if k in METRICS}
        yield row._replace(
            metrics=metrics,
            diverged=seeds[~finite].tolist(),
            choices=chosen,
            speedup=_speedup(results, name, task),
            cost=cell.cost,
            state_bytes=cell.state_bytes,
        )


def _speedup(results: Results, name: str, task: str) -> TaskSpeedup | None:
    """Returns the speed-up over the reference, if there is one."""
    if task not in standings.compared(results) or not _ended(results, name, [task]):
        return None
    ratios, censored = standings.speedups(results, name, [task])
    mean = statistics.geometric(statistics.interval(np.log(ratios[0])))
    return TaskSpeedup(*mean, int(censored.sum()))


def _comparisons(results: Results) -> Iterator[Comparison]:
    """Yields each candidate against the baseline that does best, by task and metric."""
    optimizers = results.settings["optimizers"]
    baselines = [name for name, settings in optimizers.items() if settings["baseline"]]
    for task in results.settings["tasks"]:
        for metric in METRICS:
            values = {
                name: standings.runs(results, name, metric, [task])[0]
                for name in optimizers
            }
            if not baselines:
                continue
            best = min(baselines, key=lambda name: np.mean(values[name]))
            for name in (x for x in optimizers if x not in baselines):
                difference = _difference(values[name], values[best])
                outcome = _outcome(values[name], values[best], difference)
                yield Comparison(name, best, task, metric, difference, outcome)


def _control(results: Results) -> Iterator[Control]:
    """Yields, for what runs untuned, each tuned baseline at equal compute.

    In the seconds of one run of the candidate a baseline has so many trials; its loss
    is the best that is expected of them, on the tuning seeds, or that of its defaults
    if lower. That it is chosen and judged on the same seeds flatters the baseline.
    """
    optimizers = results.settings["optimizers"]
    for name, settings in optimizers.items():
        for baseline, tuned in optimizers.items():
            if settings["trials"] or settings["baseline"] or not tuned["trials"]:
                continue
            tasks = list(results.settings["tasks"])
            if not _ended(results, name, tasks):
                continue
            pairs = [_equal(results, name, baseline, task) for task in tasks]
            pairs = [x for x in pairs if x]
            if pairs:
                trials, logs = zip(*pairs, strict=True)
                ratio = statistics.geometric(statistics.stratified(np.stack(logs)))
                yield Control(name, baseline, float(np.median(trials)), ratio)


def _equal(
    results: Results, name: str, baseline: str, task: str
) -> tuple[float, np.ndarray] | None:
    """Returns trials at equal compute, and [s] log-ratios of final losses then."""
    ours, theirs = results.cell(name, task), results.cell(baseline, task)
    if ours.error or theirs.error or not theirs.tried:
        return None
    trials = max(1.0, ours.cost.seconds / theirs.cost.seconds)
    expected = statistics.expected_best(theirs.tried.values["final"].mean(-1), [trials])
    mine = standings.runs(results, name, "final", [task])
    with np.errstate(invalid="ignore", over="ignore"):
        default = METRICS["final"](theirs.chosen["default"].curves)
    best = np.fmin(default, expected)
    return trials, statistics.loss_ratio(mine, best)[0]


def _ended(results: Results, name: str, tasks: list[str]) -> bool:
    """Returns whether any run of some tasks has a final loss."""
    return bool(np.isfinite(standings.runs(results, name, "final", tasks)).any())


def _difference(ours: np.ndarray, theirs: np.ndarray) -> statistics.Interval:
    with np.errstate(invalid="ignore"):
        return statistics.interval(ours - theirs)


def _outcome(
    ours: np.ndarray, theirs: np.ndarray, difference: statistics.Interval
) -> str:
    """Returns better, level or worse; level where the interval holds zero."""
    if not np.isfinite(ours).all():
        return "diverged"
    if not np.isfinite(theirs).all() or difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "level"


def _finite(value: Any) -> Any:
    """Returns the same with None for numbers that are not finite, of Python's types."""
    if hasattr(value, "_fields"):
        return type(value)(*map(_finite, value))
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
