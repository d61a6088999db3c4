"""Scores of losses, with intervals over seeds; what is not finite has diverged."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

CHUNK = 2**20  # values resampled at a time: 8 MB
FLOOR = 1e-12  # least loss in a ratio


class Interval(NamedTuple):
    """A statistic over seeds with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Speedup(NamedTuple):
    """The reference's steps over the candidate's; if censored, the least it can be."""

    ratio: float
    censored: bool


def smooth(
    losses: Float[np.ndarray, "*n t"], decay: float
) -> Float[np.ndarray, "*n t"]:
    """Returns exponential moving averages over time, corrected for their start at 0.

    They lag by decay / (1 - decay) steps. Nothing after a loss that is not finite is.

    >>> smooth(np.array([4.0, 1.0, 1.0]), 0.5).tolist()
    [4.0, 2.0, 1.4285714285714286]

    Args:
      losses: after each step, along the last axis.
      decay: in [0, 1); 0 changes nothing.

    Raises:
      ValueError: if decay is outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay=}; try 0.9.")
    losses = np.asarray(losses, np.float64)
    biased, mean = np.empty_like(losses), np.zeros(losses.shape[:-1])
    with np.errstate(invalid="ignore"):  # as 0 times infinity is
        for step in range(losses.shape[-1]):
            mean = decay * mean + (1 - decay) * losses[..., step]
            biased[..., step] = mean
    return biased / (1 - decay ** np.arange(1.0, losses.shape[-1] + 1))


def speedup(
    candidate: Float[np.ndarray, " t"], references: Sequence[Float[np.ndarray, " _"]]
) -> Speedup:
    """Returns how many times fewer steps the candidate needs for its last loss.

    The candidate is taken to need all of its steps, the reference those until it first
    is as low: noise makes the reference look a little faster than it is, never the
    candidate, and what falls early and rises again is judged by where it ends. The
    first reference to get there counts. If none does, the longest says where the ratio
    is censored. A candidate that diverged has the least ratio there is.

    >>> speedup(np.array([3.0, 1.0]), [np.array([4.0, 3.0, 2.0, 1.0])])
    Speedup(ratio=2.0, censored=False)

    Args:
      candidate: smoothed losses of one seed, one a step.
      references: the same of the reference as tuned for several lengths.
    """
    steps, target = len(candidate), candidate[-1]
    if not np.isfinite(target):
        return Speedup(1 / steps, False)
    there = [np.flatnonzero(np.isfinite(x) & (x <= target)) for x in references]
    arrivals = [1 + int(indices[0]) for indices in there if len(indices)]
    if arrivals:
        return Speedup(min(arrivals) / steps, False)
    return Speedup(max(map(len, references)) / steps, True)


def loss_ratio(
    candidate: Float[np.ndarray, "k s"],
    reference: Float[np.ndarray, "k s"],
    *,
    limit: float = 100.0,
) -> Float[np.ndarray, "k s"]:
    """Returns log(candidate / reference) within +-log(limit): below 0 is better.

    Against a finite loss, one that diverged is at the limit; two such are level. So are
    two losses below 1e-12, for which all lower ones count, zero and negative too.

    >>> loss_ratio(np.array([[1.0, np.inf]]), np.array([[1.0, 1.0]])).round(3).tolist()
    [[0.0, 4.605]]

    Args:
      candidate: final losses of k tasks and s seeds.
      reference: the same, of the same seeds.
      limit: greatest ratio told from a greater one, at least 1.
    """
    losses = np.stack([candidate, reference]).astype(np.float64)
    finite = np.isfinite(losses)
    ours, theirs = np.log(np.maximum(np.where(finite, losses, 1), FLOOR))
    bound = np.log(limit)
    extreme = bound * (finite[1].astype(float) - finite[0])
    return np.where(finite.all(0), np.clip(ours - theirs, -bound, bound), extreme)


def geometric(logs: Interval) -> Interval:
    """Returns the interval of a geometric mean from that of a mean of logarithms.

    >>> geometric(Interval(0.0, -np.inf, np.inf))
    Interval(value=1.0, low=0.0, high=inf)
    """
    return Interval(*map(float, np.exp(logs)))


def iqm(
    values: Float[np.ndarray, "..."], axis: tuple[int, ...] | None = None
) -> float | np.ndarray:
    """Returns the interquartile mean over some axes or all, pooled (arXiv:2108.13264).

    Infinities are trimmed like other values; a NaN is the mean's too.

    >>> iqm(np.array([[0.0, 1.0], [2.0, 1000.0]]))
    1.5
    """
    values = np.asarray(values, np.float64)
    axes = tuple(range(values.ndim)) if axis is None else axis
    last = np.moveaxis(values, axes, range(-len(axes), 0))
    pooled = np.sort(last.reshape(*last.shape[: values.ndim - len(axes)], -1))
    cut = pooled.shape[-1] // 4
    means = pooled[..., cut : pooled.shape[-1] - cut].mean(-1)
    means = np.where(np.isnan(pooled[..., -1]), np.nan, means)  # NaN sorts last
    return means if means.ndim else float(means)


def interval(values: Float[np.ndarray, " s"]) -> Interval:
    """Returns the mean over seeds, with a 95 % percentile bootstrap over them.

    The infinity or NaN of a run that diverged is the mean's, which has no interval.

    >>> interval(np.array([2.0, 2.0, 2.0]))
    Interval(value=2.0, low=2.0, high=2.0)
    """
    if not np.isfinite(values).all():
        return Interval(float(values.sum()), np.nan, np.nan)
    return stratified(values[None], statistic=np.mean)


def stratified(
    *values: Float[np.ndarray, "k _"],
    statistic: Callable[..., float | np.ndarray] = iqm,
    paired: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Returns a statistic of all tasks and seeds, with a stratified bootstrap.

    Seeds are resampled within each task, tasks never (arXiv:2108.13264).

    >>> stratified(np.array([[1.0, 1.0], [3.0, 3.0]]))
    Interval(value=2.0, low=2.0, high=2.0)

    Args:
      *values: of k tasks and any number of seeds.
      statistic: gets as many arrays [..., k, s] and axis=(-2, -1), like `np.mean`.
      paired: whether arrays, then of one shape, share seeds: all are resampled alike.
      resamples: how many.
      seed: of the resampling.
    """
    arrays = [np.asarray(x, np.float64) for x in values]
    # All n of a group [n, k, s] are resampled alike.
    groups = [np.stack(arrays)] if paired else [x[None] for x in arrays]
    generator = np.random.default_rng(seed)
    rows, draws = max(1, CHUNK // sum(x.size for x in arrays)), []
    for start in range(0, resamples, rows):
        chunk, count = [], min(rows, resamples - start)
        for group in groups:
            picks = generator.integers(0, group.shape[-1], (1, count, *group.shape[1:]))
            chunk.extend(np.take_along_axis(group[:, None], picks, -1))
        draws.extend(statistic(*chunk, axis=(-2, -1)))
    # Draws themselves, not points between two, where infinities would cancel.
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return Interval(*map(float, (statistic(*arrays, axis=(-2, -1)), low, high)))


def probability_of_improvement(
    a: Float[np.ndarray, "k _"], b: Float[np.ndarray, "k _"], *, paired: bool = False
) -> Interval:
    """Returns the mean over tasks of P(a < b) + P(a = b) / 2 (arXiv:2108.13264).

    P is over all pairs of seeds (Mann-Whitney). Runs that diverged lose to those that
    did not, and are equal to each other.

    >>> probability_of_improvement(np.array([[1.0]]), np.array([[2.0]])).value
    1.0

    Args:
      a: losses of k tasks and any number of seeds, lower is better.
      b: the same of another optimizer.
      paired: as of `stratified`.
    """
    a, b = (np.where(np.isfinite(x), x, np.inf) for x in (a, b))
    return stratified(a, b, statistic=_wins, paired=paired)


def expected_best(
    scores: Float[np.ndarray, " n"], budgets: Sequence[float]
) -> Float[np.ndarray, " _"]:
    """Returns the least score expected of k tuning trials, for each budget k.

    After arXiv:1909.03004, but without replacement, as from a grid: with sorted scores
    the i-th of n is the least with probability C(n - i, k - 1) / C(n, k). The control
    for unequal tuning: compare budgets of equal compute.

    >>> expected_best(np.array([1.0, 3.0, np.inf]), [1, 2, 2.5, 3]).round(2).tolist()
    [inf, 1.67, 1.33, 1.0]

    Args:
      scores: of n trials, lower is better.
      budgets: trials, at least 1; linear between whole numbers, n where above n.

    Raises:
      ValueError: if a budget is below 1.
    """
    if min(budgets) < 1:
        raise ValueError(f"Budgets must be at least 1 trial, got {budgets=}.")
    ordered = np.sort(np.where(np.isfinite(scores), scores, np.inf))
    found = []
    for budget in np.minimum(budgets, len(ordered)):
        fewer, more = (_least(ordered, f(budget)) for f in (math.floor, math.ceil))
        part = budget % 1
        found.append(fewer if part == 0 else (1 - part) * fewer + part * more)
    return np.array(found)


def _least(ordered: Float[np.ndarray, " n"], k: int) -> float:
    """Returns the expected least of k of n sorted scores."""
    rank = np.arange(1, len(ordered) - k + 1)
    # Ratios of the probabilities of successive ranks: binomials would overflow.
    ratios = (len(ordered) - rank - k + 1) / (len(ordered) - rank)
    chances = k / len(ordered) * np.cumprod([1.0, *ratios])
    kept = ordered[: len(chances)]
    # The last chance may underflow to 0, which times infinity is NaN.
    return float(chances @ kept) if np.isfinite(kept[-1]) else np.inf


def _wins(a: np.ndarray, b: np.ndarray, axis: tuple[int, ...]) -> float | np.ndarray:
    """Returns the mean over tasks of P(a < b) + P(a = b) / 2."""
    a, b = a[..., :, None], b[..., None, :]
    return ((a < b).mean(-1) + (a <= b).mean(-1)).mean(axis) / 2
