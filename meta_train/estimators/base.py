"""The one interface of meta-gradient estimators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Theta = Any
EstimatorState = Any  # a pytree of arrays; workers are the leading axis


class Estimate(NamedTuple):
    """A meta-gradient with what was seen on the way.

    Attributes:
      grad: pytree like theta.
      loss: scalar mean meta-loss over valid workers and the window.
      metrics: scalars by name; always `restarts` and `diverged` (counts of workers)
        and `valid` (the number of workers averaged over).
    """

    grad: Theta
    loss: jax.Array
    metrics: dict[str, jax.Array]


class Estimator(NamedTuple):
    """`init(theta, data, key) -> state`; `estimate(theta, state, data, key)`.

    `estimate` returns `(Estimate, state)`. Both are pure and jittable.
    """

    init: Callable[[Theta, Any, jax.Array], EstimatorState]
    estimate: Callable[
        [Theta, EstimatorState, Any, jax.Array], tuple[Estimate, EstimatorState]
    ]
