"""The section `config.inner`, checked and built."""

from collections.abc import Sequence
from typing import Any

from common import settings
from common.names import known
from lopt import checks, schedules
from lopt.types import LearnedOptimizer
from meta_train.inner.imitation import Imitation
from meta_train.inner.objectives import REDUCTIONS
from meta_train.inner.training import Inner
from tasks.base import TaskFamily


def inner(
    *,
    rule: LearnedOptimizer,
    family: TaskFamily,
    window: int | tuple[int, ...],
    horizon: tuple[int, ...],
    growth: int = 0,
    reduce: str = "mean",
    valid_weight: float = 0.25,
    log_offset: float | None = None,
    schedule: dict[str, Any] | None = None,
    stagger: bool = True,
    fresh: float = 1.0,
    imitation: Imitation | None = None,
) -> Inner:
    """Returns inner training of `family` by `rule`.

    Losses are L_t: after update t, the normalised losses on the next batches of the
    splits `train` and `outer_valid`, or their logarithms, in a weighted mean.

    Args:
      rule: applied under muP, with widths relative to the family's base width.
      family: what to train on.
      window: inner steps per window, W >= 1, or the least and the most, of which each
        run draws one, log-uniform. A window is the stretch of a run that one estimate
        of the meta-gradient sees, unless the estimator takes whole runs. Every window
        costs as much as the longest.
      horizon: least and most inner steps before a restart, log-uniform between. If they
        differ, an estimator of windows weighs a run by its length, because a longer run
        has more windows; an estimator of whole runs weighs every run alike.
      growth: number of windows of a worker during which the greatest horizon grows,
        geometrically, from the least to its value; 0: it has that value from the start.
      reduce: what theta is to lower of the losses of a run: their "mean"; "late", the
        mean weighed by the square of the share of the run that is done; the "last"; or
        the "min".
      valid_weight: in [0, 1]; weight of the loss on the split `outer_valid` in the
        meta-loss, the rest being that of the loss on `train`. Without it rules learn
        to overfit.
      log_offset: c > 0 makes the meta-loss log(c + loss), so that a window late in a
        run, whose losses are small, weighs as much as an early one; None: the loss.
      schedule: `dict(name, peak, warmup)` of `lopt.schedules`, over the worker's
        horizon, for rules that leave their step size to one; or None.
      stagger: whether workers start at a random step, lest all restart together.
      fresh: probability in (0, 1] that a run that ends is followed by a fresh one, and
        not by going on from an earlier state (`estimators.buffer`); 1: there is no
        buffer. Below it runs may become longer than `horizon`.
      imitation: settings of `Imitation`, or None.

    Raises:
      ValueError: for a weight or probability out of range, an empty window or horizon,
        a buffer that cannot be, a schedule, reduction or expert that is not known, or
        bad settings of imitation.
    """
    windows = _pair("window", (window, window) if isinstance(window, int) else window)
    horizon = _pair("horizon", horizon)
    _check_ranges(windows, horizon, growth, valid_weight, log_offset)
    _check_buffer(fresh, windows, horizon, reduce)
    if schedule is not None:
        settings.call(schedules.build, "config.inner.schedule", schedule, num_steps=1)
        checks.check_rate("config.inner.schedule.peak", schedule["peak"])
    weights = {"train": 1 - valid_weight, "outer_valid": valid_weight}
    return Inner(
        rule=rule,
        family=family,
        windows=windows,
        horizon=horizon,
        growth=growth,
        reduce=known("reduce", reduce, REDUCTIONS),
        shares={split: weight for split, weight in weights.items() if weight},
        log_offset=log_offset,
        schedule=schedule,
        stagger=stagger,
        fresh_share=fresh,
        imitation=imitation,
    )


def _pair(name: str, value: Any) -> tuple[int, int]:
    """Returns a range as it is."""
    whole = isinstance(value, Sequence) and all(isinstance(x, int) for x in value)
    if not whole or len(value) != 2:
        raise ValueError(
            f"{name} must be two integers, such as (100, 200), got {value}."
        )
    return value


def _check_ranges(window, horizon, growth, valid_weight, log_offset):
    if not 1 <= window[0] <= window[1] or not 1 <= horizon[0] <= horizon[1]:
        raise ValueError(
            "need window >= 1, or 1 <= low <= high of it, and 1 <= low <= high of "
            f"horizon, got {window=} and {horizon=}."
        )
    if not growth >= 0:
        raise ValueError(f"growth must be at least 0, got {growth=}.")
    if not 0 <= valid_weight <= 1:
        raise ValueError(f"valid_weight must be in [0, 1], got {valid_weight=}.")
    if log_offset is not None and not log_offset > 0:
        raise ValueError(f"log_offset must be positive or None, got {log_offset=}.")


def _check_buffer(fresh, window, horizon, reduce):
    if not 0 < fresh <= 1:
        raise ValueError(f"fresh must be in (0, 1], got {fresh=}; try 0.2 or 1.0.")
    if fresh < 1 and horizon[0] < window[1]:
        raise ValueError(
            "a buffer of runs needs horizons of at least a window, got "
            f"{fresh=}, {horizon=} and {window=}; try fresh=1.0."
        )
    if fresh < 1 and reduce == "min":
        raise ValueError(  # differences that would no longer telescope
            "runs that go on have two horizons, which reduce='min' cannot weigh, got "
            f"{fresh=}; try reduce='mean' or fresh=1.0."
        )
