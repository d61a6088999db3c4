"""How baselines are tuned: what is tried, under which budget, and what is chosen."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

from evaluation import checks, scores
from evaluation.curves import Curves
from lopt import spaces
from lopt.baselines import Baseline
from tasks.base import known

DECAY = 0.9  # of the moving average that training losses are smoothed by
EDGE = 0.05  # share of a range, at each end, that counts as its edge

# What hyperparameters are chosen for: curves -> [h, s], to be minimised.
METRICS: dict[str, Callable[[Curves], np.ndarray]] = {
    "mean": lambda found: found.train.mean(-1, dtype=np.float64),
    "final": lambda found: scores.smooth(found.train, DECAY)[..., -1],
    "valid": lambda found: found.valid[..., -1].astype(np.float64),
}


class Tuning(NamedTuple):
    """How what can be tuned is tuned, on every task by itself.

    Attributes:
      protocol: name in `PROTOCOLS`.
      trials: hyperparameters tried, at each length.
      seeds: to choose by; none of them is reported.
      transfer: whether tasks of a suite that grow from one are tuned on that alone,
        as muP's transfer is judged.
      learned: learning rates tried of a learned optimizer that takes one, evenly
        spaced, at each length; 0: that which it was trained under.
    """

    protocol: str
    trials: int
    seeds: tuple[int, ...]
    transfer: bool = False
    learned: int = 0


class Choice(NamedTuple):
    """What was best for one metric on the tuning seeds.

    Attributes:
      hyperparameters: by name.
      score: mean of the metric over the tuning seeds.
      edges: hyperparameters whose optimum lies at the edge of their range, so that a
        better one may lie beyond.
    """

    hyperparameters: dict[str, Any]
    score: float
    edges: tuple[str, ...]


def none(baseline: Baseline, trials: int) -> list[dict[str, Any]]:
    """Returns no trials: baselines are run at their defaults."""
    del baseline, trials
    return []


def grid(baseline: Baseline, trials: int) -> list[dict[str, Any]]:
    """Returns every schedule at evenly spaced learning rates, else defaults.

    There are as many rates as make `trials` of them, or the next number below.
    """
    schedules = baseline.space.get("schedule", (None,))
    if trials < len(schedules):
        raise ValueError(
            f"a grid of {len(schedules)} schedules needs as many trials, got {trials=}."
        )
    rates = baseline.space["learning_rate"].grid(trials // len(schedules))
    return [
        baseline.defaults
        | ({} if schedule is None else {"schedule": schedule})
        | {"learning_rate": rate}
        for schedule, rate in itertools.product(schedules, rates)
    ]


def search(baseline: Baseline, trials: int) -> list[dict[str, Any]]:
    """Returns points of a scrambled Halton sequence over the whole space.

    As AlgoPerf's quasi-random search (arXiv:2306.07179); the first k of them are the
    search of a budget of k.
    """
    halton = scipy.stats.qmc.Halton(len(baseline.space), rng=0)
    points = halton.random(trials).tolist()
    return [baseline.defaults | spaces.point(baseline.space, x) for x in points]


PROTOCOLS: dict[str, Callable[[Baseline, int], list[dict[str, Any]]]] = {
    "none": none,
    "grid": grid,
    "search": search,
}


def tried(baseline: Baseline | None, tuning: Tuning) -> list[dict[str, Any]]:
    """Returns the hyperparameters to try of a baseline; none of what is not one."""
    if baseline is None:
        return []
    if baseline.learned:
        if tuning.protocol == "none" or not tuning.learned:
            return []
        rates = baseline.space["learning_rate"].grid(tuning.learned)
        return [{"learning_rate": rate} for rate in rates]
    return PROTOCOLS[tuning.protocol](baseline, tuning.trials)


def check(tuning: Tuning, seeds: Sequence[int]) -> None:
    """Raises ValueError for an unknown protocol, no trials, or seeds in both roles."""
    own = tuning._replace(seeds=tuple(tuning.seeds))._asdict()
    checks.check(Tuning, "tuning", own)
    known("tuning protocol", tuning.protocol, PROTOCOLS)
    if tuning.trials < 1 or tuning.learned < 0 or not tuning.seeds or not seeds:
        raise ValueError(f"need trials and seeds, got {tuning} and {seeds=}.")
    if len(seeds) < 2:
        raise ValueError(f"one seed has no interval; report more than {seeds}.")
    both = sorted({*tuning.seeds} & {*seeds})
    if both:
        raise ValueError(
            f"seeds {both} are both for tuning and for reporting; results on seeds "
            "that were tuned on flatter the tuned."
        )
    for own in (tuning.seeds, seeds):
        if len({*own}) < len(own):
            raise ValueError(f"seeds repeat: {list(own)}.")


def choose(
    values: Float[np.ndarray, "h s"],
    trials: Sequence[dict[str, Any]],
    space: spaces.Space,
) -> Choice:
    """Returns the trial of the least mean over seeds.

    Args:
      values: a metric; infinite for a run that diverged, whose trial is then out.
      trials: hyperparameters of each.
      space: that they are from.

    Raises:
      ValueError: if every trial diverged on some seed.
    """
    means = values.mean(-1)
    index = int(np.argmin(means))
    if not np.isfinite(means[index]):
        raise ValueError(f"each of {len(trials)} trials diverged on some seed.")
    best = trials[index]
    edges = tuple(
        name
        for name, values in space.items()
        if isinstance(values, spaces.Range)
        and min(values.share(best[name]), 1 - values.share(best[name])) < EDGE
    )
    return Choice(best, float(means[index]), edges)


def values(found: Curves, metric: str) -> Float[np.ndarray, "h s"]:
    """Returns a metric of `METRICS`, infinite where a run diverged."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(found.finite, METRICS[metric](found), np.inf)
