"""One inner run, and the ways to step on: a window, so many steps, to its horizon."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.inner.imitation import Unlikeness


class Worker(NamedTuple):
    """One inner run.

    Attributes:
      draw: names the task.
      params: inner parameters.
      carried: what the task carries, such as running statistics.
      opt_state: state of the rule, muP scaling and schedule.
      expert: state of the expert that is imitated; `()` without one.
      step: inner steps since the last restart; starts staggered.
      horizon: inner steps before the next restart.
      window: inner steps that a window of this run takes.
      windows: windows taken so far, over all restarts.
      best: least meta-loss of this run so far; infinite before the first.
    """

    draw: Any
    params: Any
    carried: Any
    opt_state: Any
    expert: Any
    step: jax.Array
    horizon: jax.Array
    window: jax.Array
    windows: jax.Array
    best: jax.Array


class Losses(NamedTuple):
    """What W inner steps show; each [W], and 0 where no step was taken.

    Attributes:
      value: meta-losses L_t.
      objective: what theta is to lower; its mean over the steps of a run is L's
        mean, last or least, as `reduce` says, and partly imitation if asked.
      unlikeness: what objectives are mixed of; `()` without imitation.
      taken: whether the step was taken.
      later: whether its run began inside these W steps.
    """

    value: jax.Array
    objective: jax.Array
    unlikeness: Unlikeness | tuple[()]
    taken: jax.Array
    later: jax.Array

    def mean(self) -> jax.Array:
        """Returns the mean of the meta-losses, a scalar."""
        return jnp.sum(self.value) / jnp.maximum(1, jnp.sum(self.taken))


def _keys(key, num_steps, salt):
    """Returns keys of each step's batch and of the next one's, and one for the rest."""
    batch_key, rest_key = jax.random.split(key)
    if salt is not None:
        batch_key = jax.random.fold_in(batch_key, salt)
    batch_keys = jax.random.split(batch_key, num_steps + 1)
    return (batch_keys[:-1], batch_keys[1:]), rest_key


def _counted(worker):
    return worker._replace(windows=worker.windows + 1)


def window_of(step: Any, restart: Any, window: tuple[int, int]) -> Any:
    """Returns `Inner.window`."""
    num_steps = window[1]

    def run_window(theta, worker, data, key, later=None, salt=None):
        taking = worker.window

        @jax.checkpoint
        def body(carry, keys):
            index, batch_keys, restart_key = keys
            worker, began = carry
            now = theta if later is None else where(began, later, theta)
            after, losses = step(now, data, worker, batch_keys)
            new = theta if later is None else later
            after, due = restart(new, after, data, restart_key, False)
            taken = jnp.bool_(True)
            if window[0] < num_steps:
                taken = index < taking
                after = where(taken, after, worker)
                losses = _masked(taken, losses)
            seen = Losses(*losses, taken=taken, later=began)
            return (after, began | (taken & due)), seen

        batch_keys, rest_key = _keys(key, num_steps, salt)
        keys = (
            jnp.arange(num_steps),
            batch_keys,
            jax.random.split(rest_key, num_steps),
        )
        start = (_counted(worker), jnp.bool_(False))
        (worker, _), losses = jax.lax.scan(body, start, keys)
        return worker, losses

    return run_window


def unroll_of(step: Any) -> Any:
    """Returns `Inner.unroll`."""

    def unroll(theta, worker, data, key, num_steps, salt=None):
        @jax.checkpoint
        def body(worker, batch_keys):
            worker, losses = step(theta, data, worker, batch_keys)
            return worker, Losses(*losses, jnp.bool_(True), jnp.bool_(False))

        return jax.lax.scan(body, _counted(worker), _keys(key, num_steps, salt)[0])

    return unroll


def run_of(step: Any, most: int) -> Any:
    """Returns `Inner.run`, in as many segments as a segment has steps."""
    count, segment = segments(most)

    def run(theta, worker, data, key, salt=None):
        @jax.checkpoint
        def body(worker, batch_keys):
            after, losses = step(theta, data, worker, batch_keys)
            taken = worker.step < worker.horizon
            after = where(taken, after, worker)
            losses = _masked(taken, losses)
            return after, Losses(*losses, taken=taken, later=jnp.bool_(False))

        @jax.checkpoint
        def part(worker, batch_keys):
            return jax.lax.scan(body, worker, batch_keys)

        padded = segment * count
        keys, _ = _keys(key, padded, salt)
        keys = jax.tree.map(lambda k: k.reshape(count, segment), keys)
        remaining = worker.horizon - worker.step
        after, losses = jax.lax.scan(part, _counted(worker), keys)
        losses = jax.tree.map(lambda x: x.reshape(padded), losses)
        objective, unlike = jax.tree.map(
            lambda x: x * padded / remaining, (losses.objective, losses.unlikeness)
        )
        return after, losses._replace(objective=objective, unlikeness=unlike)

    return run


def segments(num_steps: int) -> tuple[int, int]:
    """Returns how many segments of how many steps cover a run, about as many each."""
    segment = math.isqrt(num_steps - 1) + 1
    return -(-num_steps // segment), segment


def _masked(taken, losses):
    return jax.tree.map(lambda x: jnp.where(taken, x, 0.0), losses)


def where(condition: jax.Array, then: Any, otherwise: Any) -> Any:
    """Returns one of two trees, by a scalar."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
