"""Schedules: a peak and a number of steps -> update count -> learning rate.

Optax's own test `num_steps > 0` in Python; these take traced numbers, so that trials
of different lengths and peaks share one compiled program.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


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


SCHEDULES: dict[str, Callable[[Any, Any], optax.Schedule]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
}


def build(name: Any, *, peak: Any, num_steps: Any) -> optax.Schedule:
    """Returns the schedule `name` of `SCHEDULES`: update count -> learning rate.

    Args:
      name: a name, or its index in `SCHEDULES`. The index may be traced, so that
        trials of all schedules share one compiled program.
      peak: learning rate at count 0; may be traced.
      num_steps: updates after which decaying schedules are at 0; may be traced.

    Raises:
      ValueError: for an unknown name, listing those known, or no steps.

    >>> build("cosin", peak=1.0, num_steps=10)
    Traceback (most recent call last):
    ValueError: unknown schedule 'cosin'; known: constant, linear, cosine.
    """
    if isinstance(num_steps, int) and num_steps < 1:
        raise ValueError(f"a schedule needs num_steps >= 1, got {num_steps=}.")
    if isinstance(name, str):
        if name not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"unknown schedule {name!r}; known: {known}.")
        return SCHEDULES[name](peak, num_steps)
    every = [schedule(peak, num_steps) for schedule in SCHEDULES.values()]
    return lambda count: jnp.stack([schedule(count) for schedule in every])[name]


def _share(count: Any, num_steps: Any) -> jax.Array:
    """Returns the part of the run that is done, in [0, 1]."""
    return jnp.clip(jnp.asarray(count) / num_steps, 0, 1)
