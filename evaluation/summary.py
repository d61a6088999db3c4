"""What an evaluation says: rows, comparisons and speed-ups, as JSON values."""

import math
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np

from evaluation import scores
from evaluation.protocol import Entry, Results
from evaluation.tuning import FINAL

NAMES = {
    "mean": "mean training loss",
    "final": "final training loss",
    "valid": "validation loss",
}
EXPLAINED = {
    "mean": "mean over all steps of the training loss, each after its update and on "
    "the next batch",
    "final": f"mean of the last {FINAL} training losses",
    "valid": "mean over the whole inner_valid split, after the last update",
}


def summary(results: Results, *, reference: str) -> dict[str, Any]:
    """Returns all numbers of an evaluation but the curves, as JSON values.

    What is not finite is None, with the seeds that diverged beside it.

    Args:
      results: from `evaluate`.
      reference: the optimizer whose steps speed-ups are measured in.
    """
    rows = [_row(entry) for entry in results.entries]
    comparisons = list(_comparisons(results))
    return _jsonable(
        {
            "verdict": verdict(comparisons) or [_best(rows)],
            "metrics": EXPLAINED,
            "rows": rows,
            "comparisons": comparisons,
            "speedups": list(_speedups(results, reference)),
            "reference": reference,
            "settings": results.settings,
            "budget": budget(results),
            "state_bytes": results.state_bytes,
            "seconds": results.seconds,
            "notes": list(results.notes),
            "environment": environment(),
        }
    )


def verdict(comparisons: list[dict[str, Any]]) -> list[str]:
    """Returns one sentence for each candidate and length.

    >>> one = {"candidate": "mine", "num_steps": 9, "baseline": "adam"}
    >>> verdict([
    ...     one | {"metric": "mean", "outcome": "better"},
    ...     one | {"metric": "final", "outcome": "level"},
    ... ])[0]
    'At 9 steps mine is better than every tuned baseline in mean training loss; level \
with adam in final training loss.'
    """
    keys = dict.fromkeys((c["num_steps"], c["candidate"]) for c in comparisons)
    sentences = []
    for length, name in keys:
        own = [
            c for c in comparisons if (c["num_steps"], c["candidate"]) == (length, name)
        ]
        parts = "; ".join(_clauses(own))
        sentences.append(f"At {length} steps {name} is {parts}.")
    return sentences


def budget(results: Results) -> dict[str, dict[str, int]]:
    """Returns what was spent on each optimizer: trials, seeds and inner steps."""
    settings = results.settings
    tuning, reporting = (
        len(settings[f"{kind}_seeds"]) for kind in ("tuning", "reporting")
    )
    return {
        name: {
            "trials": trials,
            "tuning_seeds": tuning if trials else 0,
            "tuning_steps": trials * tuning * sum(settings["num_steps"]),
            "reporting_seeds": reporting,
        }
        for name, trials in results.trials.items()
    }


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


def _row(entry: Entry) -> dict[str, Any]:
    choice, seeds = entry.choice, np.flatnonzero(~entry.curves.finite[0])
    return {
        "name": entry.name,
        "candidate": entry.candidate,
        "num_steps": entry.num_steps,
        "metric": entry.metric,
        **scores.interval(entry.values)._asdict(),
        "iqm": scores.iqm(entry.values),
        "values": entry.values.tolist(),
        "accuracy": float(entry.curves.accuracy[0, :, -1].mean()),
        "diverged": seeds.tolist(),
        "hyperparameters": choice.hyperparameters if choice else None,
        "tuning_score": choice.score if choice else None,
        "at_edge": list(choice.edges) if choice else [],
    }


def _comparisons(results: Results) -> Iterator[dict[str, Any]]:
    """Yields each candidate against the baseline that does best, by metric."""
    for entry in (e for e in results.entries if e.candidate):
        peers = [
            e
            for e in results.entries
            if not e.candidate
            and (e.num_steps, e.metric) == (entry.num_steps, entry.metric)
        ]
        if not peers:
            continue
        best = min(peers, key=_order)
        difference = scores.interval(entry.values - best.values)
        yield {
            "candidate": entry.name,
            "baseline": best.name,
            "num_steps": entry.num_steps,
            "metric": entry.metric,
            "difference": difference._asdict(),
            "outcome": _outcome(entry, best, difference),
        }


def _order(entry: Entry) -> float:
    mean = float(np.mean(entry.values))
    return mean if math.isfinite(mean) else math.inf


def _outcome(entry: Entry, best: Entry, difference: scores.Interval) -> str:
    """Returns better, level or worse; level where the interval holds zero."""
    if not np.isfinite(entry.values).all():
        return "diverged"
    if not np.isfinite(best.values).all() or difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "level"


def _clauses(own: list[dict[str, Any]]) -> Iterator[str]:
    """Yields what is better, then level, then worse, and what diverged."""
    better = _metrics(own, "better")
    if better:
        yield f"better than every tuned baseline in {better}"
    for outcome, said in (("level", "level with"), ("worse", "worse than")):
        for baseline in dict.fromkeys(c["baseline"] for c in own):
            its = [c for c in own if c["baseline"] == baseline]
            if _metrics(its, outcome):
                yield f"{said} {baseline} in {_metrics(its, outcome)}"
    if _metrics(own, "diverged"):
        yield f"without a finite {_metrics(own, 'diverged')}, having diverged"


def _metrics(own: list[dict[str, Any]], outcome: str) -> str:
    """Returns the metrics of an outcome, as "a, b and c"."""
    *names, last = [NAMES[c["metric"]] for c in own if c["outcome"] == outcome] or [""]
    return f"{', '.join(names)} and {last}" if names else last


def _best(rows: list[dict[str, Any]]) -> str:
    """Returns who is lowest in validation loss at the greatest length."""
    longest = max(row["num_steps"] for row in rows)
    last = [r for r in rows if (r["num_steps"], r["metric"]) == (longest, "valid")]
    best = min(last, key=lambda r: r["mean"] if math.isfinite(r["mean"]) else math.inf)
    return f"At {longest} steps {best['name']} has the lowest validation loss."


def _speedups(results: Results, reference: str) -> Iterator[dict[str, Any]]:
    """Yields speed-ups of what is tuned for its final loss, or not at all."""
    finals = [e for e in results.entries if e.metric == "final"]
    theirs = [e.curves.train[0] for e in finals if e.name == reference]
    theirs = [train for train in theirs if np.isfinite(train).all()]
    for entry in finals:
        train = entry.curves.train[0]
        if theirs and entry.name != reference and np.isfinite(train).all():
            speedup = scores.speedup(train, theirs)
            yield {
                "name": entry.name,
                "num_steps": entry.num_steps,
                **speedup._asdict(),
            }


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
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
