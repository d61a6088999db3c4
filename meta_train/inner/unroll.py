"""Ways for a worker to step on: so many steps, a window, or to its horizon."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.inner.worker import Losses, Worker, where

# (theta, data, worker, keys) -> the worker one update on, and the first fields of its
# `Losses`; keys are that of the step's batch and that of the next step's.
Step = Callable[..., tuple[Worker, tuple[Any, ...]]]
Restart = Callable[..., tuple[Worker, jax.Array]]


def unroll(
    step: Step,
    theta: Any,
    worker: Worker,
    data: Any,
    key: jax.Array,
    num_steps: int,
    salt: Any = None,
) -> tuple[Worker, Losses]:
    """Returns the worker `num_steps` updates on, past its horizon too, and losses."""

    @jax.checkpoint
    def body(worker, batch_keys):
        worker, losses = step(theta, data, worker, batch_keys)
        return worker, Losses(*losses, jnp.bool_(True), jnp.bool_(False))

    return jax.lax.scan(body, _counted(worker), _keys(key, num_steps, salt)[0])


def window(
    step: Step,
    restart: Restart,
    theta: Any,
    worker: Worker,
    data: Any,
    key: jax.Array,
    windows: tuple[int, int],
    later: Any = None,
    salt: Any = None,
) -> tuple[Worker, Losses]:
    """Returns the worker a window on, and losses; it restarts where its run ends.

    Args:
      step: takes one update.
      restart: as `Inner.restart`.
      theta: until the run ends.
      worker: where the window begins.
      data: of the family.
      key: of batches and of the run that may begin inside.
      windows: least and most steps of a window; the most are computed, and masked.
      later: theta of the run that begins inside; None: `theta`.
      salt: changes the batches that the key draws, unless None.
    """
    least, most = windows

    @jax.checkpoint
    def body(carry, keys):
        index, batch_keys, restart_key = keys
        before, began = carry
        now = theta if later is None else where(began, later, theta)
        after, losses = step(now, data, before, batch_keys)
        new = theta if later is None else later
        after, due = restart(new, after, data, restart_key, False)
        taken = jnp.bool_(True)
        if least < most:
            taken = index < worker.window
            after, losses = where(taken, after, before), _masked(taken, losses)
        seen = Losses(*losses, taken=taken, later=began)
        return (after, began | (taken & due)), seen

    batch_keys, rest_key = _keys(key, most, salt)
    keys = jnp.arange(most), batch_keys, jax.random.split(rest_key, most)
    start = (_counted(worker), jnp.bool_(False))
    (after, _), losses = jax.lax.scan(body, start, keys)
    return after, losses


def run(
    step: Step,
    theta: Any,
    worker: Worker,
    data: Any,
    key: jax.Array,
    most: int,
    salt: Any = None,
) -> tuple[Worker, Losses]:
    """Returns the worker at its horizon, and losses, in segments that rematerialise.

    `math.prod(segments(most))` steps are computed; those past the horizon are masked.
    """
    count, segment = segments(most)
    padded = segment * count

    @jax.checkpoint
    def body(worker, batch_keys):
        after, losses = step(theta, data, worker, batch_keys)
        taken = worker.step < worker.horizon
        after, losses = where(taken, after, worker), _masked(taken, losses)
        return after, Losses(*losses, taken=taken, later=jnp.bool_(False))

    @jax.checkpoint
    def part(worker, batch_keys):
        return jax.lax.scan(body, worker, batch_keys)

    keys, _ = _keys(key, padded, salt)
    keys = jax.tree.map(lambda k: k.reshape(count, segment), keys)
    remaining = worker.horizon - worker.step
    after, losses = jax.lax.scan(part, _counted(worker), keys)
    losses = jax.tree.map(lambda x: x.reshape(padded), losses)
    objective, unlike = jax.tree.map(
        lambda x: x * padded / remaining, (losses.objective, losses.unlikeness)
    )
    return after, losses._replace(objective=objective, unlikeness=unlike)


def segments(num_steps: int) -> tuple[int, int]:
    """Returns how many segments of how many steps cover a run, about as many each.

    >>> segments(100), segments(7)
    ((10, 10), (3, 3))
    """
    segment = math.isqrt(num_steps - 1) + 1
    return -(-num_steps // segment), segment


def _keys(key: jax.Array, num_steps: int, salt: Any) -> tuple[Any, jax.Array]:
    """Returns keys of each step's batch and of the next one's, and one for the rest."""
    batch_key, rest_key = jax.random.split(key)
    if salt is not None:
        batch_key = jax.random.fold_in(batch_key, salt)
    batch_keys = jax.random.split(batch_key, num_steps + 1)
    return (batch_keys[:-1], batch_keys[1:]), rest_key


def _counted(worker: Worker) -> Worker:
    return worker._replace(windows=worker.windows + 1)


def _masked(taken: jax.Array, losses: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(taken, x, 0.0), losses)
