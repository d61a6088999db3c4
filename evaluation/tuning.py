"""Baselines tuned under a stated budget, for each metric by itself."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from evaluation import curves

FINAL = 10  # steps at the end whose mean is the final loss

# Column -> what is minimised: curves -> [h, s].
METRICS: dict[str, Callable[[curves.Curves], np.ndarray]] = {
    "mean": lambda found: found.train.mean(-1),
    "final": lambda found: found.train[..., -FINAL:].mean(-1),
    "valid": lambda found: found.valid[..., -1],
}


class Choice(NamedTuple):
    """What was best for one metric on the tuning seeds.

    Attributes:
      hyperparameters: by name.
      score: mean of the metric over the tuning seeds.
      edges: hyperparameters whose optimum is the least or greatest value tried, so
        that a better one may lie beyond.
    """

    hyperparameters: dict[str, Any]
    score: float
    edges: tuple[str, ...]


def trials(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns every combination of the values of a space.

    >>> trials({"schedule": ["linear"], "learning_rate": [0.1, 1.0]})[1]
    {'schedule': 'linear', 'learning_rate': 1.0}
    """
    product = itertools.product(*space.values())
    return [dict(zip(space, values, strict=True)) for values in product]


def tune(
    runner: curves.Runner,
    space: Mapping[str, Sequence[Any]],
    *,
    num_steps: int,
    seeds: Sequence[int],
) -> dict[str, Choice]:
    """Returns the best of all combinations of a space, for each of `METRICS`.

    A combination that diverges on any seed is out. Runs have the length that is
    reported: schedules and rates are chosen for it.

    Args:
      runner: the optimizer on its track.
      space: values to try, by hyperparameter.
      num_steps: updates per run.
      seeds: for tuning only; results on them are not reported.

    Raises:
      ValueError: if every combination diverges.
    """
    tried = trials(space)
    found = curves.run(runner, num_steps=num_steps, seeds=seeds, hyperparameters=tried)
    return {
        name: _best(np.where(found.finite, metric(found), np.inf), tried, space)
        for name, metric in METRICS.items()
    }


def disjoint(tuning: Sequence[int], reporting: Sequence[int]) -> None:
    """Raises ValueError if seeds repeat, or serve both to tune and to report."""
    both = sorted({*tuning} & {*reporting})
    if both:
        raise ValueError(
            f"seeds {both} are both for tuning and for reporting; results on seeds "
            "that were tuned on flatter the tuned."
        )
    for seeds in (tuning, reporting):
        if len({*seeds}) < len(seeds):
            raise ValueError(f"seeds repeat: {list(seeds)}.")


def _best(
    scores: Float[np.ndarray, "h s"],
    tried: list[dict[str, Any]],
    space: Mapping[str, Sequence[Any]],
) -> Choice:
    means = scores.mean(-1)
    index = int(np.argmin(means))
    if not np.isfinite(means[index]):
        raise ValueError(
            f"each of {len(tried)} trials diverged on some seed; widen the grid of "
            f"{', '.join(space)} downwards."
        )
    best = tried[index]
    edges = tuple(
        name for name, values in space.items() if _at_edge(best[name], values)
    )
    return Choice(best, float(means[index]), edges)


def _at_edge(value: Any, values: Sequence[Any]) -> bool:
    """Returns whether a number is the least or greatest tried; names have no edge."""
    if isinstance(value, str) or len(values) < 2:
        return False
    return value in (min(values), max(values))
