"""Schedules: a peak and a number of steps -> update count -> learning rate.

Optax's own test `num_steps > 0` in Python; these take traced numbers, so that trials
of different lengths and peaks share one compiled program.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lopt import checks
from lopt.names import find


def constant(peak: Any, num_steps: Any) -> optax.Schedule:
    """Returns the schedule that stays at `peak`; `num_steps` may be None."""
    del num_steps
    return lambda count: jnp.asarray(peak)


def linear(peak: Any, num_steps: Any) -> optax.Schedule:
    """Returns the schedule that falls from `peak` to 0 at `num_steps` in a line.

    >>> [float(linear(2.0, 4)(count)) for count in (0, 1, 4, 9)]
    [2.0, 1.5, 0.0, 0.0]
    """
    return lambda count: peak * (1 - _share(count, num_steps))


def cosine(peak: Any, num_steps: Any) -> optax.Schedule:
    """Returns peak (1 + cos(pi count/num_steps)) / 2, 0 afterwards (arXiv:1608.03983).

    >>> [float(cosine(2.0, 4)(count)) for count in (0, 4, 9)]
    [2.0, 0.0, 0.0]
    """
    return lambda count: peak * (1 + jnp.cos(jnp.pi * _share(count, num_steps))) / 2


def wsd(peak: Any, num_steps: Any) -> optax.Schedule:
    """Returns the schedule that stays at `peak`, then falls to 0 in a line.

    The last fifth of the run is the fall (arXiv:2405.18392, arXiv:2404.06395). `build`
    adds the warm-up.

    >>> [round(float(wsd(2.0, 10)(count)), 6) for count in (0, 8, 9, 10)]
    [2.0, 2.0, 1.0, 0.0]
    """
    return lambda count: peak * jnp.minimum(1, (1 - _share(count, num_steps)) / 0.2)


SCHEDULES: dict[str, Callable[[Any, Any], optax.Schedule]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "wsd": wsd,
}
WARMUPS = {"wsd": 0.05}  # least shares of the run that are warm-up


def build(name: Any, *, peak: Any, num_steps: Any, warmup: Any = 0.0) -> optax.Schedule:
    """Returns the schedule `name` of `SCHEDULES`: update count -> learning rate.

    Args:
      name: a name, `module:attribute` of a function like those of `SCHEDULES` that is
        annotated `-> optax.Schedule`, or its index in `SCHEDULES`. The index may be
        traced, so that trials of all schedules share one compiled program.
      peak: the greatest learning rate; may be traced.
      num_steps: updates after which decaying schedules are at 0; may be traced.
      warmup: share of the run, in [0, 1], over which rates are multiplied by a line:
        from one step of it at count 0 up to 1; may be traced. "wsd" warms up over a
        twentieth of the run at least.

    Raises:
      ValueError: for an unknown name, listing those known, steps that are no whole
        number from 1, or a warm-up longer than the run.

    >>> [float(build("constant", peak=8.0, num_steps=8, warmup=0.5)(c)) for c in (0, 9)]
    [2.0, 8.0]
    >>> build("cosin", peak=1.0, num_steps=10)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown schedule 'cosin'; known: ... Did you mean 'cosine'?
    """
    if checks.is_known(warmup) and not 0 <= checks.number(warmup) <= 1:
        raise ValueError(f"warmup is a share of the run, in [0, 1], got {warmup=}.")
    checks.check_steps(num_steps)
    if isinstance(name, str):
        return _warmed(name, peak, num_steps, warmup)
    every = [_warmed(known, peak, num_steps, warmup) for known in SCHEDULES]
    return lambda count: jnp.stack([schedule(count) for schedule in every])[name]


def _warmed(name: str, peak: Any, num_steps: Any, warmup: Any) -> optax.Schedule:
    """Returns the schedule times its warm-up."""
    build = find("schedule", name, SCHEDULES, "Schedule", "Callable")
    schedule = build(peak, num_steps)
    if isinstance(warmup, int | float) and warmup == 0 and name not in WARMUPS:
        return schedule  # to the digit
    steps = jnp.maximum(warmup, WARMUPS.get(name, 0.0)) * num_steps

    def rate(count: Any) -> jax.Array:
        # (count + 1)/0 is infinite without steps: past the warm-up.
        return schedule(count) * jnp.minimum(1, (jnp.asarray(count) + 1) / steps)

    return rate


def _share(count: Any, num_steps: Any) -> jax.Array:
    """Returns the part of the run that is done, in [0, 1]."""
    return jnp.clip(jnp.asarray(count) / num_steps, 0, 1)
