"""The truncated gradient: reverse mode through one window."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.estimators.base import (
    Contribution,
    Estimator,
    Theta,
    all_finite,
    per_worker,
)
from meta_train.unroll import Inner, Worker


def truncated(*, inner: Inner, num_workers: int) -> Estimator:
    """Returns the gradient of a window's mean loss; the entering state is constant.

    Exact when the window is the horizon, biased towards short-sighted rules when it
    is shorter. Memory grows with the window.

    Args:
      inner: what each worker runs.
      num_workers: inner runs in parallel, n.
    """

    def mean_loss(theta, after, losses, data, key):
        return jnp.mean(losses)

    return reverse_mode(
        mean_loss, window=inner.window, inner=inner, num_workers=num_workers
    )


def reverse_mode(
    objective: Callable[..., jax.Array],
    *,
    window: Callable[..., tuple[Worker, jax.Array]],
    inner: Inner,
    num_workers: int,
) -> Estimator:
    """Returns the gradient of any objective of a window, the entering state constant.

    `objective(theta, after, losses, data, key)` takes the worker after the window and
    the window's losses [W] and returns a scalar. `window(theta, worker, data, key)` may
    go past the horizon: workers that did restart afterwards.
    """

    def one(theta: Theta, worker: Worker, data: Any, key: jax.Array) -> Contribution:
        window_key, objective_key, restart_key = jax.random.split(key, 3)

        def value(theta: Theta) -> tuple[jax.Array, tuple]:
            after, losses = window(theta, worker, data, window_key)
            return objective(theta, after, losses, data, objective_key), (after, losses)

        (scalar, aux), grad = jax.value_and_grad(value, has_aux=True)(theta)
        after, losses = aux
        valid = all_finite((scalar, losses, grad, after.params))
        after, _ = inner.restart(theta, after, data, restart_key, ~valid)
        restarted = valid & (after.step < worker.step + losses.size)
        return Contribution(grad, jnp.mean(losses), scalar, valid, restarted, after)

    return per_worker(inner.start, one, num_workers=num_workers)
