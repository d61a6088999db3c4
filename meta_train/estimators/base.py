"""The one interface of meta-gradient estimators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from lopt import rules
from meta_train.estimators.buffer import buffered
from meta_train.inner.training import Inner
from meta_train.inner.worker import Losses, Worker

Theta = Any
EstimatorState = Any  # a pytree of arrays; workers are the leading axis
WORKERS = "workers"  # the axis along which one worker can measure itself by all


class Estimate(NamedTuple):
    """A meta-gradient with what was seen on the way.

    Attributes:
      grad: pytree like theta.
      loss: scalar mean meta-loss over valid workers and the window; NaN if none is.
      metrics: scalars by name; always `objective` (whose gradient is estimated),
        `restarts` and `diverged` (counts of workers), `valid` (the number of
        workers averaged over) and `snr`, the signal-to-noise ratio |grad|^2 over the
        sum of `variance`, NaN with less than two of them. With imitation
        also `direction` and `magnitude`, how unlike the expert updates are
        (`Unlikeness`).
      variance: pytree like theta, that of the mean over workers, where it is known.
    """

    grad: Theta
    loss: jax.Array
    metrics: dict[str, jax.Array]
    variance: Theta = None


class Estimator(NamedTuple):
    """`init(theta, data, key) -> state`; `estimate(theta, state, data, key)`.

    `estimate` returns `(Estimate, state)`. Both are pure and jittable. `steps` is how
    many inner steps an estimate takes, of all workers together. `sharding` is a prefix
    of the state's tree: how its leaves lie on the devices of axis "worker". With
    several families, `draw(key)` returns the index of the family that is used at the
    meta-step of `key`; `estimate` then takes this index, a Python integer, as well.
    `turns` has an `estimate` for each family. It takes the family's own state and, as
    data, the family's data with its index as an array. So families that differ in data
    alone can share a program.
    """

    init: Callable[[Theta, Any, jax.Array], EstimatorState]
    estimate: Callable[
        [Theta, EstimatorState, Any, jax.Array], tuple[Estimate, EstimatorState]
    ]
    steps: int = 0
    sharding: Any = PartitionSpec("worker")
    draw: Callable[[jax.Array], jax.Array] | None = None
    turns: tuple[Callable[..., tuple[Estimate, EstimatorState]], ...] = ()


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


def variance_of_mean(grads: Any, mean: Any, valid: jax.Array) -> Any:
    """Returns the variance of each entry of a mean over valid workers.

    Args:
      grads: leaves [n, ...], one gradient a worker.
      mean: of those that are valid.
      valid: [n].
    """
    square = jax.tree.map(lambda g, m: jnp.square(g - m[None]), grads, mean)
    count = jnp.maximum(1, valid.sum() - 1)
    return jax.tree.map(lambda x: x / count, valid_mean(square, valid))


def root_mean_square(entries: jax.Array, counts: jax.Array) -> jax.Array:
    """Returns the root mean square of the entries, over all workers, that count.

    It works inside `per_worker` only, because it sums over the axis of workers.
    """
    square = jnp.sum(jnp.where(counts, jnp.square(entries), 0))
    square, number = jax.lax.psum((square, jnp.sum(counts)), WORKERS)
    return jnp.sqrt(square / jnp.maximum(1, number))


def pairwise(function: Callable[..., Any], in_axes: tuple) -> Callable[..., Any]:
    """Returns `function` of the two runs of a pair."""

    def both(*args: Any) -> Any:
        with rules.copies(2):
            return jax.vmap(function, in_axes)(*args)

    return both


def total(tree: Any) -> jax.Array:
    """Returns the sum of every entry of a tree."""
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(tree))


class Contribution(NamedTuple):
    """What one worker adds to an estimate, and its own state after the window.

    Attributes:
      grad: pytree like theta.
      losses: those it saw, [W]; of a pair, their mean.
      objective: scalar whose gradient is estimated.
      valid: whether it is averaged in.
      restarted: whether its run ended inside the window.
      state: of this worker.
    """

    grad: Theta
    losses: Losses
    objective: jax.Array
    valid: jax.Array
    restarted: jax.Array
    state: Any


def concluded(
    inner: Inner,
    theta: Theta,
    after: Worker,
    data: Any,
    key: jax.Array,
    *,
    grad: Theta,
    losses: Losses,
    objective: jax.Array,
    valid: jax.Array,
) -> Contribution:
    """Returns what a window adds; the worker after it restarts if due or not valid."""
    ended = losses.later.any() | (after.step == 0)
    after, due = inner.restart(theta, after, data, key, ~valid)
    return Contribution(grad, losses, objective, valid, valid & (ended | due), after)


def refuse_imitation(inner: Inner, why: str) -> None:
    """Raises ValueError if `inner` asks for imitation."""
    if inner.imitation is not None:
        raise ValueError(
            f"{why}; set config.inner.imitation = None, or take another estimator."
        )


def per_worker(
    start: Callable[[Theta, Any, jax.Array], Any],
    contribution: Callable[[Theta, Any, Any, jax.Array], Contribution],
    *,
    num_workers: int,
    steps: int,
    inner: Inner,
) -> Estimator:
    """Returns the estimator that averages `contribution` over its valid workers.

    `start` makes the state of one worker, which takes `steps` inner steps an estimate.
    Workers that are not valid are masked one by one, never averaged in. If `inner` asks
    for it, runs that end go on from an earlier state (`buffer`).
    """
    if inner.fresh_share < 1:
        start, contribution = buffered(start, contribution, fresh=inner.fresh_share)

    def init(theta: Theta, data: Any, key: jax.Array) -> EstimatorState:
        keys = worker_keys(key, num_workers)
        return jax.vmap(start, in_axes=(None, None, 0))(theta, data, keys)

    def estimate(
        theta: Theta, state: EstimatorState, data: Any, key: jax.Array
    ) -> tuple[Estimate, EstimatorState]:
        keys = worker_keys(key, num_workers)
        all_workers = jax.vmap(
            contribution, in_axes=(None, 0, None, 0), axis_name=WORKERS
        )
        with rules.copies(max(1, num_workers // jax.device_count())):
            out = all_workers(theta, state, data, keys)
        counts = dict(diverged=~out.valid, restarts=out.restarted, valid=out.valid)
        metrics = {name: jnp.sum(flags) for name, flags in counts.items()}
        means = (out.grad, jax.vmap(Losses.mean)(out.losses), out.objective)
        grad, *scalars = valid_mean(means, out.valid)
        loss, objective = (jnp.where(out.valid.any(), x, jnp.nan) for x in scalars)
        variance = variance_of_mean(out.grad, grad, out.valid)
        ratio = total(jax.tree.map(jnp.square, grad)) / total(variance)
        metrics["snr"] = jnp.where(out.valid.sum() > 1, ratio, jnp.nan)
        metrics["objective"] = objective
        if out.losses.unlikeness:
            metrics |= valid_mean(_unlikeness(out.losses), out.valid)
        return Estimate(grad, loss, metrics, variance), out.state

    return Estimator(init, estimate, num_workers * steps)


def _unlikeness(losses: Losses) -> dict[str, jax.Array]:
    """Returns the mean l_dir and l_mag of each worker [n], of losses [n, W]."""
    seen = losses.unlikeness
    means = {"direction": seen.direction, "magnitude": seen.magnitude}
    return jax.tree.map(lambda x: jnp.mean(x, axis=1), means)


def per_run(
    measure: Callable[[Theta, Worker, Any, jax.Array], tuple],
    *,
    inner: Inner,
    num_workers: int,
    runs: int,
) -> Estimator:
    """Returns the estimator that averages `measure`, of so many runs, over workers.

    `measure(theta, worker, data, key)` takes a worker at its first step and returns the
    first four of a `Contribution`. A worker keeps nothing but
    the number of estimates that it has made.

    Raises:
      ValueError: if `inner` asks for a buffer.
    """
    if inner.fresh_share < 1:
        raise ValueError(
            "an estimate that is a whole run leaves nothing to go on with, got "
            f"fresh={inner.fresh_share}; set config.inner.fresh = 1.0."
        )

    def start(theta: Theta, data: Any, key: jax.Array) -> jax.Array:
        return jnp.zeros([], jnp.int32)

    def contribution(
        theta: Theta, count: jax.Array, data: Any, key: jax.Array
    ) -> Contribution:
        fresh_key, own_key = jax.random.split(key)
        worker = inner.fresh(theta, data, fresh_key, count)
        *found, valid = measure(theta, worker, data, own_key)
        return Contribution(*found, valid, restarted=valid, state=count + 1)

    steps = runs * inner.longest
    return per_worker(
        start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )
