"""How baselines are tuned: what is tried, under which budget, and what is chosen."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from common import checks
from common.names import known
from evaluation import statistics
from evaluation.runs.curves import Curves
from lopt.baselines import Baseline, spaces

DECAY = 0.9  # of the moving average that training losses are smoothed by
EDGE = 0.05  # share of a range, at each end, that counts as its edge
RATES = 7  # evenly spaced learning rates that are tried first, from the middle
AROUND = ("final", "valid", "mean", "final")  # metrics whose best a round is around
SHRINK = 0.7  # sizes of boxes, round by round
CONSTANT = "constant"

# What hyperparameters are chosen for: curves -> [h, s], to be minimised.
METRICS: dict[str, Callable[[Curves], np.ndarray]] = {
    "mean": lambda found: found.train.mean(-1, dtype=np.float64),
    "final": lambda found: statistics.smooth(found.train, DECAY)[..., -1],
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
        spaced, at each length; 0: that which it was trained under; None: as many trials
        as others have, by the same protocol.
    """

    protocol: str
    trials: int
    seeds: tuple[int, ...]
    transfer: bool = False
    learned: int | None = None


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


class Seen(NamedTuple):
    """Trials so far.

    Attributes:
      hyperparameters: of each.
      scores: {metric of `METRICS`: [h], to be minimised, infinite where it diverged}.
    """

    hyperparameters: list[dict[str, Any]]
    scores: dict[str, np.ndarray]

    def best(self, metric: str) -> dict[str, Any]:
        """Returns the hyperparameters of the least score."""
        return self.hyperparameters[int(np.argmin(self.scores[metric]))]


def none(baseline: Baseline, trials: int, seen: Seen) -> list[dict[str, Any]]:
    """Returns no trials: baselines are run at their defaults."""
    del baseline, trials, seen
    return []


def grid(baseline: Baseline, trials: int, seen: Seen) -> list[dict[str, Any]]:
    """Returns every schedule at evenly spaced learning rates, else defaults, at once.

    There are as many rates as make `trials` of them, or the next number below.
    """
    if seen.hyperparameters:
        return []
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


def search(baseline: Baseline, trials: int, seen: Seen) -> list[dict[str, Any]]:
    """Returns points of a scrambled Halton sequence over the whole space, at once.

    As AlgoPerf's quasi-random search (arXiv:2306.07179); the first k of them are the
    search of a budget of k.
    """
    if seen.hyperparameters:
        return []
    points = _halton(len(baseline.space), trials)
    return [baseline.defaults | spaces.point(baseline.space, x) for x in points]


def narrow(baseline: Baseline, trials: int, seen: Seen) -> list[dict[str, Any]]:
    """Returns learning rates at defaults first, then, by rounds, what is near the best.

    The first k trials are the search of a budget of k. Defaults have a schedule that
    decays; a constant one is tried once. Rates are the three in the middle of `RATES`,
    then neighbours of what is best for any metric, while there are any. Each round has
    a box around what is best by then for each metric, ever smaller, in it points of a
    scrambled Halton sequence.
    """
    done, space = len(seen.hyperparameters), baseline.space
    if done >= trials:
        return []
    first = [baseline.defaults]
    if rates := space.get("learning_rate"):
        first = [baseline.defaults | {"learning_rate": x} for x in rates.grid(RATES)]
    tried = [first.index(x) for x in seen.hyperparameters if x in first]
    if len(tried) == done and (new := _neighbours(tried, seen, len(first))):
        return [first[i] for i in new][: trials - done]
    more = done - len(tried)
    turn = more // len(AROUND)
    points = _halton(len(space), more + len(AROUND))[-len(AROUND) :]
    new = [
        _near(seen.best(metric), space, np.array(point), SHRINK**turn)
        for metric, point in zip(AROUND, points, strict=True)
    ]
    if turn == 0 and CONSTANT in space.get("schedule", ()):
        new[-1] = seen.best("final") | {"schedule": CONSTANT}
    return new[: trials - done]


def _neighbours(tried: Sequence[int], seen: Seen, count: int) -> list[int]:
    """Returns which places of a row to try next: three in the middle, then neighbours.

    Args:
      tried: places in the row, in the order of `seen`, which holds nothing else.
      seen: trials so far.
      count: places of the row.
    """
    if not tried:
        middle = count // 2
        return [i for i in (middle, middle - 1, middle + 1) if 0 <= i < count]
    best = {tried[int(np.argmin(scores))] for scores in seen.scores.values()}
    near = {place + step for place in best for step in (-1, 1)}
    return sorted(i for i in near - {*tried} if 0 <= i < count)


def _near(
    centre: dict[str, Any], space: spaces.Space, point: np.ndarray, size: float
) -> dict[str, Any]:
    """Returns a point of a box around `centre`, `size` times the first in width."""
    found = {}
    for (name, values), u in zip(space.items(), point, strict=True):
        if isinstance(values, spaces.Range):
            # Rates were tried already, as far apart as the first box is wide.
            reach = 1 / (RATES - 1) if name == "learning_rate" else 0.5
            middle = values.share(centre[name])
            low, high = max(middle - size * reach, 0.0), min(middle + size * reach, 1.0)
            found[name] = values.at(low + u * (high - low))
        else:
            others = [x for x in values if x not in (CONSTANT, centre[name])]
            picked = int(2 * len(others) * u / size)  # half the time at first
            found[name] = others[picked] if picked < len(others) else centre[name]
    return centre | found


def _halton(dimensions: int, count: int) -> list[list[float]]:
    import scipy.stats  # here, as it takes a second that most commands need not wait

    return scipy.stats.qmc.Halton(dimensions, rng=0).random(count).tolist()


Protocol = Callable[[Baseline, int, Seen], list[dict[str, Any]]]
PROTOCOLS: dict[str, Protocol] = {
    "none": none,
    "grid": grid,
    "search": search,
    "narrow": narrow,
}


def further(baseline: Baseline, tuning: Tuning, seen: Seen) -> list[dict[str, Any]]:
    """Returns what to try next of a baseline, by what was tried; nothing at the end."""
    count = _rates(baseline, tuning)
    if count is not None:
        rates = baseline.space["learning_rate"].grid(max(1, count))
        fresh = tuning.protocol != "none" and not seen.hyperparameters
        return [{"learning_rate": x} for x in rates if fresh and count]
    return PROTOCOLS[tuning.protocol](baseline, tuning.trials, seen)


def budget(baseline: Baseline, tuning: Tuning) -> int:
    """Returns how many trials a baseline has, at each length."""
    if not baseline.space:
        return 0
    if tuning.protocol == "narrow" and _rates(baseline, tuning) is None:
        return tuning.trials
    return len(further(baseline, tuning, Seen([], {})))


def sequential(baseline: Baseline, tuning: Tuning) -> bool:
    """Returns whether its first k trials are what a budget of k would try."""
    ordered = tuning.protocol in ("search", "narrow")
    return ordered and bool(baseline.space) and _rates(baseline, tuning) is None


def _rates(baseline: Baseline, tuning: Tuning) -> int | None:
    """Returns how many rates alone are tried of a baseline; None: by the protocol."""
    return tuning.learned if baseline.learned else baseline.rates


def check(tuning: Tuning, seeds: Sequence[int]) -> None:
    """Raises ValueError for an unknown protocol, no trials, or seeds in both roles."""
    used = tuning._replace(seeds=tuple(tuning.seeds))._asdict()
    checks.check(Tuning, "tuning", used)
    known("tuning protocol", tuning.protocol, PROTOCOLS)
    if tuning.trials < 1 or (tuning.learned or 0) < 0 or not tuning.seeds or not seeds:
        raise ValueError(f"need trials and seeds, got {tuning} and {seeds=}.")
    if len(seeds) < 2:
        raise ValueError(f"one seed has no interval; report more than {seeds}.")
    both = sorted({*tuning.seeds} & {*seeds})
    if both:
        raise ValueError(
            f"seeds {both} are both for tuning and for reporting; results on seeds "
            "that were tuned on flatter the tuned."
        )
    for used in (tuning.seeds, seeds):
        if len({*used}) < len(used):
            raise ValueError(f"seeds repeat: {list(used)}.")


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
