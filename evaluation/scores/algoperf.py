"""AlgoPerf's score: how soon optimizers reach fixed targets (arXiv:2306.07179).

A score is relative to its pool: name all optimizers with it, and their tuning budgets.
"""

import numpy as np
from jaxtyping import Float, Real

LIMIT = 4.0  # ratio to the fastest from which an optimizer earns nothing


def ratios(times: Float[np.ndarray, "o w"]) -> Float[np.ndarray, "o w"]:
    """Returns times over the fastest optimizer's on the same workload (equation 1).

    >>> ratios(np.array([[2.0, np.inf], [3.0, np.inf]])).tolist()
    [[1.0, inf], [1.5, inf]]

    Args:
      times: to the target, in steps or seconds; inf where it was missed.

    Raises:
      ValueError: if a time is not above 0, or NaN.
    """
    if not (times > 0).all():
        raise ValueError(
            f"times must be above 0, inf for a miss, got {times[~(times > 0)]}; "
            "start the clock at 1 step, and count a run that diverged as a miss."
        )
    fastest = times.min(0)
    return times / np.where(np.isfinite(fastest), fastest, 1.0)


def profile(
    times: Float[np.ndarray, "o w"], taus: Float[np.ndarray, " p"]
) -> Float[np.ndarray, "o p"]:
    """Returns the share of workloads within each ratio to the fastest (equation 2).

    Workloads that nobody solves count among all.

    >>> profile(np.array([[2.0, 2.0], [3.0, 1.0]]), np.array([1.0, 1.5, 2.0])).tolist()
    [[0.5, 0.5, 1.0], [0.5, 1.0, 1.0]]
    """
    return (ratios(times)[..., None] <= taus).mean(1)


def score(times: Float[np.ndarray, "o w"]) -> Float[np.ndarray, " o"]:
    """Returns the mean of the profile over ratios from 1 to 4 (equation 3), exactly.

    A workload is within tau from its ratio on, so that it adds (4 - r) / 3.

    >>> score(np.array([[1.0, 1.0, np.inf], [1.0, 2.5, np.inf]])).round(3).tolist()
    [0.667, 0.5]
    """
    return np.maximum(0.0, LIMIT - ratios(times)).mean(-1) / (LIMIT - 1)


def integral(
    times: Float[np.ndarray, "o w"], points: int = 100
) -> Float[np.ndarray, " o"]:
    """Returns `score` by the trapezoid rule, whose 100 points leaderboards used.

    It is off by at most half a spacing: 1 / (2 (points - 1)), about 0.005 for 100.
    """
    taus = np.linspace(1.0, LIMIT, points)
    return np.trapezoid(profile(times, taus), taus) / (LIMIT - 1)


def admitted(
    times: Float[np.ndarray, "o w"], variants: Float[np.ndarray, "o w"]
) -> Float[np.ndarray, "o w"]:
    """Returns the times, with inf where a held-out variant was failed (section 4.5.3).

    Both must be solved within 4 times the fastest. On a variant, that is the fastest of
    those that solve its workload. Version 0.5 has this rule, 0.6 does not.

    Args:
      times: on the workloads that are scored.
      variants: the same on a variant of each, or `times` of those without one.
    """
    solved = np.where(np.isfinite(times), variants, np.inf)
    near = (ratios(times) <= LIMIT) & (ratios(solved) <= LIMIT)
    return np.where(near, times, np.inf)


def time_to_target(
    steps: Real[np.ndarray, " v"], losses: Float[np.ndarray, "*n v"], *, target: float
) -> Float[np.ndarray, "*n"]:
    """Returns the step of the first look at or below the target, inf if none is.

    >>> losses = np.array([[3.0, 1.0, 2.0], [3.0, 3.0, np.nan]])
    >>> time_to_target(np.array([10, 20, 30]), losses, target=2.0).tolist()
    [20.0, inf]

    Args:
      steps: of the looks, ascending; or the seconds by then.
      losses: of validation; NaN reaches nothing.
      target: that of `target`.
    """
    reached = losses <= target
    return np.where(reached.any(-1), steps[reached.argmax(-1)], np.inf)


def study_time(times: Float[np.ndarray, "*n s t"]) -> Float[np.ndarray, "*n"]:
    """Returns the median over studies of the time of each study's fastest trial.

    Misses are larger than any time. It is the mean of the middle two for an even
    number of studies, inf if either is, as NumPy's median in the official code. That
    takes the trial first in evaluations instead, which costs LAWA EMA 0.005 in v0.5.

    >>> study_time(np.array([[5.0, 3.0], [np.inf, 4.0], [np.inf, np.inf]])).tolist()
    4.0

    Args:
      times: of s independent studies of t trials each. Version 0.5 has 5 x 5 where
        hyperparameters are tuned; else 5 x 1, at three times the longest runtime.
    """
    return np.asarray(np.median(times.min(-1), -1))


def target(values: Float[np.ndarray, "o s"]) -> float:
    """Returns the best optimizer's median over seeds, reached by half of its runs.

    AlgoPerf tunes AdamW, NadamW, Nesterov and heavy ball with 200 quasirandom trials
    each, for 0.75 times the longest runtime that entrants get. It reruns the one best
    trial of all on 20 seeds (sections 4.1, 5), so that o = 1; more rows only compare
    medians too, not lucky trials. For a held-out variant it tunes two: NadamW, and the
    best other one on the workload itself.

    >>> target(np.array([[0.3, 0.1, 0.9], [0.2, 0.4, 0.4]]))
    0.3

    Args:
      values: the best validation loss during each run; NaN if it has none. For what is
        to be maximised, its negative.

    Raises:
      ValueError: if no optimizer has a median.
    """
    best = np.median(np.where(np.isnan(values), np.inf, values), -1).min()
    if not np.isfinite(best):
        raise ValueError(
            f"some optimizer must train on most seeds, got {values=}; tune it first."
        )
    return float(best)
