"""Numbers from loss curves: means with intervals, IQM, speed-up in steps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

from evaluation.tuning import FINAL

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean over seeds with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class Speedup(NamedTuple):
    """Steps of the reference over steps of the candidate, for the same loss.

    Attributes:
      ratio: above 1 where the candidate is faster.
      censored: whether the reference never got there, so that the ratio is a bound
        from below.
    """

    ratio: float
    censored: bool


def interval(values: Float[np.ndarray, " s"]) -> Interval:
    """Returns the mean over seeds, with a 95 % percentile bootstrap over them.

    Runs that diverged are not left out: their infinity or NaN is the mean's too, and
    there is no interval.

    >>> interval(np.array([2.0, 2.0, 2.0]))
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        return Interval(float(values.sum()), np.nan, np.nan)
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(-1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def iqm(values: Float[np.ndarray, "..."]) -> float:
    """Returns the interquartile mean of all values (arXiv:2108.13264).

    >>> iqm(np.array([[0.0, 1.0], [2.0, 1000.0]]))
    1.5
    """
    # SciPy's default axis would trim each column by itself.
    return float(scipy.stats.trim_mean(np.asarray(values, np.float64).ravel(), 0.25))


def smooth(losses: Float[np.ndarray, "*n t"]) -> Float[np.ndarray, "*n t"]:
    """Returns trailing means of up to `FINAL` steps, fewer at the start.

    The last one is the final loss of `METRICS`.

    >>> smooth(np.arange(12.0)).tolist()[-3:]
    [4.5, 5.5, 6.5]
    """
    losses = np.asarray(losses, np.float64)
    steps = losses.shape[-1]
    means = [losses[..., max(0, t - FINAL) : t].mean(-1) for t in range(1, steps + 1)]
    return np.stack(means, -1)


def speedup(
    candidate: Float[np.ndarray, "s t"],
    references: Sequence[Float[np.ndarray, "s _"]],
) -> Speedup:
    """Returns how many times fewer steps the candidate needs for its final loss.

    All curves are averaged over seeds and smoothed alike. Of several reference runs,
    as of several lengths, the first to get there counts.

    Args:
      candidate: training losses after each update.
      references: the same of the reference; the longest says where to censor.
    """
    steps = candidate.shape[-1]
    target = smooth(candidate.mean(0))[-1]
    reached = [
        1 + np.argmax(below)
        for losses in references
        if (below := smooth(losses.mean(0)) <= target).any()
    ]
    if reached:
        return Speedup(float(min(reached) / steps), False)
    return Speedup(max(losses.shape[-1] for losses in references) / steps, True)
