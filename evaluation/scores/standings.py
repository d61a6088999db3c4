"""Optimizers over all tasks of an evaluation: one row each, with intervals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from evaluation import statistics
from evaluation.runs.curves import Curves
from evaluation.runs.entrants import CONSTANT
from evaluation.runs.results import Cell, Results
from evaluation.runs.tuning import DECAY, METRICS
from evaluation.scores import algoperf, time_to_target
from evaluation.statistics import Interval


class Metric(NamedTuple):
    """What is reported of a run.

    Attributes:
      title: in words.
      tuned_for: metric of `METRICS` that hyperparameters were chosen for.
      measure: curves -> [h, s].
    """

    title: str
    tuned_for: str
    measure: Callable[[Curves], np.ndarray]


REPORTED = {
    "mean": Metric("mean training loss", "mean", lambda x: x.train.mean(-1)),
    "final": Metric(
        "final training loss",
        "final",
        lambda x: statistics.smooth(x.train, DECAY)[..., -1],
    ),
    "best": Metric(
        "least training loss",
        "final",
        lambda x: statistics.smooth(x.train, DECAY).min(-1),
    ),
    "train_accuracy": Metric(
        "training accuracy", "final", lambda x: x.train_accuracy[..., -1]
    ),
    "valid": Metric("validation loss", "valid", lambda x: x.valid[..., -1]),
    "test": Metric("test loss", "valid", lambda x: x.test[..., -1]),
    "accuracy": Metric("validation accuracy", "valid", lambda x: x.accuracy[..., -1]),
    "test_accuracy": Metric(
        "test accuracy", "valid", lambda x: x.test_accuracy[..., -1]
    ),
}


class Standing(NamedTuple):
    """How an optimizer does over all tasks that the reference was run on.

    What is measured by losses is None where no run of these tasks has one: all failed
    or diverged.

    Attributes:
      speedup: IQM over tasks and seeds of the steps that the reference needs for the
        same final loss, over the candidate's.
      speedup_seconds: the same in seconds, of steps that do nothing else.
      speedup_constant: the same in steps over Adam at the best of constant rates, where
        that takes part.
      censored: share of runs whose loss the reference never reached.
      censored_constant: the same of Adam at the best of constant rates.
      loss_ratio: IQM of the final training loss over the reference's.
      test_ratio: IQM of the test loss over the reference's.
      improvement: chance that the final loss of a run is below one of the reference.
      test_improvement: the same of the test loss.
      diverged: share of all runs, those of failed cells among them.
      failed: tasks whose cells failed.
      step_ratio: median over tasks of seconds a step over the reference's.
      optimizer_seconds: median over tasks of the update's seconds.
      state_bytes: per parameter, the most over tasks.
      peak_ratio: median over tasks of peak memory over the reference's.
      algoperf: {"tuned", "untuned"}: {"steps", "seconds"}: score in the pool of this
        evaluation, or None where it does not take part.
    """

    speedup: Interval | None
    speedup_seconds: Interval | None
    speedup_constant: Interval | None
    censored: float | None
    loss_ratio: Interval | None
    test_ratio: Interval | None
    improvement: Interval | None
    test_improvement: Interval | None
    diverged: float
    failed: list[str]
    step_ratio: float | None
    optimizer_seconds: float | None
    state_bytes: float | None
    peak_ratio: float | None
    algoperf: dict[str, dict[str, float | None]]
    censored_constant: float | None = None


def standings(results: Results) -> dict[str, Standing]:
    """Returns {optimizer: its standing}."""
    aims = time_to_target.targets(results)
    pools = {
        rule: time_to_target.pool(results, aims, rule) for rule in ("tuned", "untuned")
    }
    points = {
        rule: {
            unit: dict(zip(pool.optimizers, algoperf.score(times), strict=True))
            for unit, times in pool.times.items()
        }
        for rule, pool in pools.items()
        if pool.tasks
    }
    return {
        name: _standing(results, name)._replace(
            algoperf={
                rule: {unit: _number(x.get(name)) for unit, x in by_unit.items()}
                for rule, by_unit in points.items()
            }
        )
        for name in results.settings["optimizers"]
    }


def runs(
    results: Results, optimizer: str, metric: str, tasks: list[str]
) -> Float[np.ndarray, "k s"]:
    """Returns a metric of every run; infinite where it diverged or its cell failed."""
    rows = [_row(results.cell(optimizer, task), metric) for task in tasks]
    absent = np.full(len(results.settings["seeds"]), np.inf)
    return np.stack([absent if row is None else row for row in rows])


def compared(results: Results) -> list[str]:
    """Returns the tasks that the reference was run on."""
    name = results.settings["reference"]
    if name is None:
        return []
    return [
        task for task in results.settings["tasks"] if not results.cell(name, task).error
    ]


def speedups(
    results: Results, optimizer: str, tasks: list[str], over: str | None = None
) -> tuple[Float[np.ndarray, "k s"], Bool[np.ndarray, "k s"]]:
    """Returns the speed-up of every run over another's, and which are censored.

    Runs of equal seeds are compared, training losses being smoothed alike; the other
    is the reference by default.
    """
    over = over or results.settings["reference"]
    found = [_speedups(results, optimizer, task, over) for task in tasks]
    ratios, censored = (np.array(x) for x in zip(*found, strict=True))
    return ratios, censored.astype(bool)


def finite(cell: Cell) -> Bool[np.ndarray, " s"]:
    """Returns which seeds did not diverge, whatever it was tuned for."""
    return np.all([cell.best(metric).curves.finite[0] for metric in METRICS], axis=0)


def _standing(results: Results, name: str) -> Standing:
    tasks, cells = compared(results), [x for x in results.cells if x.optimizer == name]
    reference = results.settings["reference"]
    ran = [x for x in cells if not x.error]
    seeds = len(results.settings["seeds"])
    lost = [seeds if x.error else (~finite(x)).sum() for x in cells]
    base = Standing(
        *[None] * 8,
        diverged=float(sum(lost) / (seeds * len(cells))),
        failed=[x.task for x in cells if x.error],
        step_ratio=None,
        optimizer_seconds=_median([x.cost.optimizer_seconds for x in ran]),
        state_bytes=max((x.state_bytes for x in ran), default=None),
        peak_ratio=None,
        algoperf={},
    )
    if not tasks:
        return base
    both = {
        x.task: (x.cost, results.cell(reference, x.task).cost)
        for x in ran
        if x.task in tasks
    }
    slower = {task: a.seconds / b.seconds for task, (a, b) in both.items()}
    final, test = (_against(results, name, metric) for metric in ("final", "test"))
    speed = _speed(results, name, slower) if final else {}
    return base._replace(
        **speed,
        loss_ratio=_ratio(final),
        test_ratio=_ratio(test),
        improvement=_chance(final),
        test_improvement=_chance(test),
        step_ratio=_median([*slower.values()]),
        peak_ratio=_median([a.peak_bytes / b.peak_bytes for a, b in both.values()]),
    )


def _speed(
    results: Results, name: str, slower: dict[str, float]
) -> dict[str, Interval | float]:
    """Returns speed-ups in steps and seconds, and the share of censored runs.

    One over Adam at constant rates is of the tasks on which that did not fail.
    """
    tasks = compared(results)
    ratios, censored = speedups(results, name, tasks)
    # Where it failed it has no seconds, and the least speed-up anyhow.
    seconds = ratios / np.array([[slower.get(x, 1.0)] for x in tasks])
    told = [x for x in tasks if _ran(results, CONSTANT, x)]
    constant, beyond = speedups(results, name, told, CONSTANT) if told else (None, None)
    return {
        "speedup": statistics.geometric(statistics.stratified(np.log(ratios))),
        "speedup_seconds": statistics.geometric(statistics.stratified(np.log(seconds))),
        "speedup_constant": statistics.geometric(
            statistics.stratified(np.log(constant))
        )
        if told
        else None,
        "censored": float(censored.mean()),
        "censored_constant": float(beyond.mean()) if told else None,
    }


def _ran(results: Results, name: str, task: str) -> bool:
    named = name in results.settings["optimizers"]
    return named and not results.cell(name, task).error


def _against(results: Results, name: str, metric: str) -> list[np.ndarray] | None:
    """Returns [k, s] of an optimizer and of the reference, if it has any."""
    tasks, reference = compared(results), results.settings["reference"]
    ours, theirs = (runs(results, x, metric, tasks) for x in (name, reference))
    return [ours, theirs] if np.isfinite(ours).any() else None


def _ratio(pair: list[np.ndarray] | None) -> Interval | None:
    if pair is None:
        return None
    return statistics.geometric(statistics.stratified(statistics.loss_ratio(*pair)))


def _chance(pair: list[np.ndarray] | None) -> Interval | None:
    return None if pair is None else statistics.probability_of_improvement(*pair)


def _row(cell: Cell, metric: str) -> np.ndarray | None:
    """Returns [s], a metric of the reporting runs."""
    if cell.error:
        return None
    tuned_for, measure = REPORTED[metric][1:]
    found = cell.best(tuned_for).curves
    with np.errstate(invalid="ignore", over="ignore"):
        values = measure(found).astype(np.float64)[0]
    diverged = np.nan if "accuracy" in metric else np.inf
    return np.where(found.finite[0], values, diverged)


def _speedups(
    results: Results, optimizer: str, task: str, over: str
) -> tuple[list[float], list[bool]]:
    ours, theirs = (results.cell(name, task) for name in (optimizer, over))
    steps = results.settings["tasks"][task]["num_steps"]
    seeds = range(len(results.settings["seeds"]))
    if ours.error:
        return [1 / steps for _ in seeds], [False for _ in seeds]
    candidate = _smoothed(ours.best("final").curves)
    references = [_smoothed(theirs.best("final").curves)]
    references += [_smoothed(x) for x in theirs.longer.values()]
    found = [
        statistics.speedup(candidate[s], [x[s] for x in references]) for s in seeds
    ]
    return [x.ratio for x in found], [x.censored for x in found]


def _smoothed(found: Curves) -> Float[np.ndarray, "s t"]:
    with np.errstate(invalid="ignore", over="ignore"):
        return statistics.smooth(found.train[0], DECAY)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
