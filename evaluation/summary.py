"""What an evaluation says: verdict, standings and tasks, as JSON values."""

import math
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np

from evaluation import scores, standings
from evaluation.results import Results
from evaluation.standings import REPORTED
from evaluation.tuning import DECAY, METRICS

EXPLAINED = {
    "mean": "mean over all steps of the training loss, each after its update and on "
    "the next batch",
    "final": f"last of the training losses, smoothed by a moving average of decay "
    f"{DECAY}, for all alike",
    "best": "least of the smoothed training losses",
    "valid": "mean over the inner_valid split, after the last update",
    "test": "mean over the test split, after the last update, of what was tuned for "
    "the validation loss",
}


def summary(results: Results) -> dict[str, Any]:
    """Returns all numbers of an evaluation but the curves, as JSON values.

    What is not finite is None, with the seeds that diverged beside it.

    Args:
      results: from `evaluate`.
    """
    ranked = standings.standings(results)
    comparisons = list(_comparisons(results))
    aims = standings.targets(results)
    said = {
        "verdict": verdict(results, ranked, comparisons),
        "metrics": EXPLAINED,
        "standings": {name: _standing(one) for name, one in ranked.items()},
        "tasks": {
            task: {"target": aims.get(task), "rows": list(_rows(results, task))}
            for task in results.settings["tasks"]
        },
        "comparisons": comparisons,
        "control": list(_control(results)),
        "settings": results.settings,
        "budget": budget(results),
        "seconds": results.seconds,
        "notes": list(results.notes),
        "environment": environment(),
    }
    return _jsonable(said)


def verdict(
    results: Results,
    ranked: dict[str, standings.Standing],
    comparisons: list[dict[str, Any]],
) -> list[str]:
    """Returns sentences on each candidate: an optimizer that is no baseline."""
    settings, sentences = results.settings, []
    for name, of in settings["optimizers"].items():
        if of["baseline"]:
            continue
        sentences += list(_relative(name, ranked[name], settings))
        own = [c for c in comparisons if c["candidate"] == name]
        for metric in METRICS:
            outcomes = [c["outcome"] for c in own if c["metric"] == metric]
            if outcomes:
                sentences.append(_counts(name, REPORTED[metric].title, outcomes))
    return sentences or [_best(results)]


def budget(results: Results) -> dict[str, dict[str, int]]:
    """Returns what was spent on each optimizer: trials, seeds and inner steps.

    Steps are those of all tasks together.
    """
    settings, found = results.settings, {}
    seeds = len(settings["tuning"]["seeds"])
    steps = sum(x["num_steps"] for x in settings["tasks"].values())
    for name, of in settings["optimizers"].items():
        lengths = [1]
        if name == settings["reference"]:
            lengths = settings["reference_lengths"]
        found[name] = {
            "trials": of["trials"],
            "tuning_seeds": seeds if of["trials"] else 0,
            "tuning_steps": of["trials"] * seeds * steps * sum(lengths),
            "reporting_seeds": len(settings["seeds"]),
        }
    return found


def environment() -> dict[str, Any]:
    """Returns versions and hardware."""
    packages = ("jax", "jaxlib", "numpy", "optax", "flax", "lopt")
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
    }


def _standing(one: standings.Standing) -> dict[str, Any]:
    return {
        name: x._asdict() if isinstance(x, scores.Interval) else x
        for name, x in one._asdict().items()
    }


def _rows(results: Results, task: str) -> Iterator[dict[str, Any]]:
    """Yields what each optimizer does on a task."""
    for name, of in results.settings["optimizers"].items():
        cell = results.cell(name, task)
        row = {"optimizer": name, "baseline": of["baseline"], "error": cell.error}
        if cell.error:
            yield row
            continue
        row["metrics"] = {}
        for metric in REPORTED:
            values = standings.runs(results, name, metric, [task])[0]
            whole = scores.interval(values)._asdict()
            row["metrics"][metric] = whole | {"values": values.tolist()}
        finite = cell.best("final").curves.finite[0]
        seeds = np.array(results.settings["seeds"])
        yield row | {
            "diverged": seeds[~finite].tolist(),
            "choices": {
                metric: one.choice and one.choice._asdict()
                for metric, one in cell.chosen.items()
                if metric in METRICS
            },
            "speedup": _speedup(results, name, task),
            "cost": cell.cost._asdict(),
            "state_bytes": cell.state_bytes,
        }


def _speedup(results: Results, name: str, task: str) -> dict[str, Any] | None:
    """Returns the geometric mean of a speed-up, and how many seeds are censored."""
    if task not in standings.compared(results):
        return None
    ratios, censored = standings.speedups(results, name, [task])
    mean = scores.geometric(scores.interval(np.log(ratios[0])))
    return mean._asdict() | {"censored": int(censored.sum())}


def _comparisons(results: Results) -> Iterator[dict[str, Any]]:
    """Yields each candidate against the baseline that does best, by task and metric."""
    optimizers = results.settings["optimizers"]
    baselines = [name for name, of in optimizers.items() if of["baseline"]]
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
                yield {
                    "candidate": name,
                    "baseline": best,
                    "task": task,
                    "metric": metric,
                    "difference": difference._asdict(),
                    "outcome": _outcome(values[name], values[best], difference),
                }


def _control(results: Results) -> Iterator[dict[str, Any]]:
    """Yields, for what runs untuned, each tuned baseline at equal compute.

    In the seconds of one run of the candidate a baseline has so many trials; with the
    best that is expected of them, on the tuning seeds, its loss is compared. That it
    is chosen and judged on the same seeds flatters the baseline.
    """
    optimizers = results.settings["optimizers"]
    for name, of in optimizers.items():
        for baseline, its in optimizers.items():
            if of["trials"] or of["baseline"] or not its["trials"]:
                continue
            pairs = [
                _equal(results, name, baseline, task)
                for task in results.settings["tasks"]
            ]
            pairs = [x for x in pairs if x]
            if pairs:
                logs = np.log([x[1] for x in pairs])
                yield {
                    "candidate": name,
                    "baseline": baseline,
                    "trials": float(np.median([x[0] for x in pairs])),
                    "loss_ratio": float(np.exp(scores.iqm(logs))),
                }


def _equal(
    results: Results, name: str, baseline: str, task: str
) -> tuple[float, float] | None:
    """Returns trials at equal compute, and the ratio of final losses then."""
    ours, theirs = results.cell(name, task), results.cell(baseline, task)
    if ours.error or theirs.error or not theirs.tried:
        return None
    trials = max(1.0, ours.cost.seconds / theirs.cost.seconds)
    expected = scores.expected_best(theirs.tried.values["final"].mean(-1), [trials])
    mine = standings.runs(results, name, "final", [task]).mean()
    logs = scores.loss_ratio(np.array([[mine]]), expected[None])
    return trials, float(np.exp(logs[0, 0]))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> scores.Interval:
    with np.errstate(invalid="ignore"):
        return scores.interval(ours - theirs)


def _outcome(ours: np.ndarray, theirs: np.ndarray, difference: scores.Interval) -> str:
    """Returns better, level or worse; level where the interval holds zero."""
    if not np.isfinite(ours).all():
        return "diverged"
    if not np.isfinite(theirs).all() or difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "level"


def _relative(
    name: str, one: standings.Standing, settings: dict[str, Any]
) -> Iterator[str]:
    """Yields what a candidate is worth in the reference's terms."""
    reference = settings["reference"]
    if one.speedup is None:
        return
    trials = settings["optimizers"][reference]["trials"]
    tuned = f"tuned over {trials} trials a task" if trials else "untuned"
    runs = f"{len(settings['tasks'])} tasks x {len(settings['seeds'])} seeds"
    yield (
        f"{name} is {_bounds(one.speedup)} times as fast in steps as {reference}, "
        f"{tuned}, to the same training loss ({one.censored:.0%} of runs censored); "
        f"its final training loss is {_bounds(one.loss_ratio)} times, its test loss "
        f"{_bounds(one.test_ratio)} times {reference}'s (IQM over {runs}). "
        f"{one.diverged:.0%} of its runs diverged or failed."
    )


def _counts(name: str, title: str, outcomes: list[str]) -> str:
    """Returns on how many tasks a candidate is better, level, or worse.

    >>> _counts("mine", "final training loss", ["better", "level", "better"])
    'In final training loss mine beats every tuned baseline on 2 of 3 tasks, is level \
with the best on 1, worse on 0.'
    """
    counts = {kind: outcomes.count(kind) for kind in ("better", "level", "worse")}
    lost = outcomes.count("diverged")
    return (
        f"In {title} {name} beats every tuned baseline on {counts['better']} of "
        f"{len(outcomes)} tasks, is level with the best on {counts['level']}, worse on "
        f"{counts['worse']}{f', diverged on {lost}' if lost else ''}."
    )


def _best(results: Results) -> str:
    """Returns who has the lowest test loss on how many tasks, without a candidate."""
    tasks = list(results.settings["tasks"])
    names = list(results.settings["optimizers"])
    means = [standings.runs(results, name, "test", tasks).mean(-1) for name in names]
    winners = np.argmin(means, 0)
    counts = {name: int((winners == i).sum()) for i, name in enumerate(names)}
    said = ", ".join(f"{name} on {n}" for name, n in counts.items() if n)
    return f"Lowest in test loss: {said} of {len(tasks)} tasks."


def _bounds(one: scores.Interval) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(x) for x in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
