"""The one interface of meta-gradient estimators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Theta = Any
EstimatorState = Any  # a pytree of arrays; workers are the leading axis


class Estimate(NamedTuple):
    """A meta-gradient with what was seen on the way.

    Attributes:
      grad: pytree like theta.
      loss: scalar mean meta-loss over valid workers and the window; NaN if none is.
      metrics: scalars by name; always `objective` (whose gradient is estimated),
        `restarts` and `diverged` (counts of workers), `valid` (the number of
        workers averaged over) and `snr` (see `signal_to_noise`).
    """

    grad: Theta
    loss: jax.Array
    metrics: dict[str, jax.Array]


class Estimator(NamedTuple):
    """`init(theta, data, key) -> state`; `estimate(theta, state, data, key)`.

    `estimate` returns `(Estimate, state)`. Both are pure and jittable. `sharding` is a
    prefix of the state's tree: how its leaves lie on the devices of axis "worker".
    """

    init: Callable[[Theta, Any, jax.Array], EstimatorState]
    estimate: Callable[
        [Theta, EstimatorState, Any, jax.Array], tuple[Estimate, EstimatorState]
    ]
    sharding: Any = PartitionSpec("worker")


def worker_keys(key: jax.Array, num_workers: int) -> jax.Array:
    """Returns one key per worker, a function of its index and not of its device."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_workers))


def all_finite(tree: Any) -> jax.Array:
    """Returns whether every entry of one worker's tree of float arrays is finite."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))


def valid_mean(values: Any, valid: jax.Array) -> Any:
    """Returns the mean over valid workers of a tree with leaves [n, ...]; 0 if none."""

    def mean(x: jax.Array) -> jax.Array:
        mask = valid.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.sum(jnp.where(mask, x, 0), axis=0) / jnp.maximum(1, valid.sum())

    return jax.tree.map(mean, values)


def signal_to_noise(grads: Any, mean: Any, valid: jax.Array) -> jax.Array:
    """Returns |mean|^2 over the variance of the mean, trace Cov / n (FORMULAS 2).

    Args:
      grads: leaves [n, ...], one gradient a worker.
      mean: of those that are valid.
      valid: [n].
    """
    count = valid.sum()
    square = jax.tree.map(lambda g, m: jnp.square(g - m[None]), grads, mean)
    variances = jax.tree.leaves(valid_mean(square, valid))
    variance = sum(jnp.sum(x) for x in variances) / jnp.maximum(1, count - 1)
    return sum(jnp.sum(jnp.square(m)) for m in jax.tree.leaves(mean)) / variance


class Contribution(NamedTuple):
    """What one worker adds to an estimate, and its own state after the window.

    Attributes:
      grad: pytree like theta.
      loss: scalar, its mean meta-loss.
      objective: scalar whose gradient is estimated.
      valid: whether it is averaged in.
      restarted: whether its run ended inside the window.
      state: of this worker.
    """

    grad: Theta
    loss: jax.Array
    objective: jax.Array
    valid: jax.Array
    restarted: jax.Array
    state: Any


def per_worker(
    start: Callable[[Theta, Any, jax.Array], Any],
    one: Callable[[Theta, Any, Any, jax.Array], Contribution],
    *,
    num_workers: int,
) -> Estimator:
    """Returns the estimator that averages `one` over its valid workers.

    `start` makes the state of one worker. Workers that are not valid are masked one
    by one, never averaged in.
    """

    def init(theta: Theta, data: Any, key: jax.Array) -> EstimatorState:
        keys = worker_keys(key, num_workers)
        return jax.vmap(start, in_axes=(None, None, 0))(theta, data, keys)

    def estimate(
        theta: Theta, state: EstimatorState, data: Any, key: jax.Array
    ) -> tuple[Estimate, EstimatorState]:
        keys = worker_keys(key, num_workers)
        all_workers = jax.vmap(one, in_axes=(None, 0, None, 0))
        out = all_workers(theta, state, data, keys)
        counts = dict(diverged=~out.valid, restarts=out.restarted, valid=out.valid)
        metrics = {name: jnp.sum(flags) for name, flags in counts.items()}
        means = (out.grad, out.loss, out.objective)
        grad, *scalars = valid_mean(means, out.valid)
        loss, objective = (jnp.where(out.valid.any(), x, jnp.nan) for x in scalars)
        metrics["snr"] = signal_to_noise(out.grad, grad, out.valid)
        return Estimate(grad, loss, dict(metrics, objective=objective)), out.state

    return Estimator(init, estimate)
