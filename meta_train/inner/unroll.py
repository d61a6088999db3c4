"""Ways for a worker to step on: so many steps, a window, or to its horizon."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.inner.worker import Step, Worker, where

# (worker, given) -> the worker one update on, and what the step shows; given is what
# the step's batch is drawn by, and the next step's.
Advance = Callable[..., tuple[Worker, Step]]


def unroll(advance: Advance, worker: Worker, given: Any) -> tuple[Worker, Step]:
    """Returns the worker an update on for each given but the last, and its steps."""
    return jax.lax.scan(jax.checkpoint(advance), worker, _neighbours(given))


def window(
    advance: Advance,
    fresh: Callable[[jax.Array], Worker],
    worker: Worker,
    given: Any,
    fresh_keys: jax.Array,
    *,
    least: int,
    shortest: int,
) -> tuple[Worker, Step, Worker | None]:
    """Returns the worker a window on, its steps, and a worker as its run ended.

    The worker restarts where its run ends. Where no run is shorter than a window, no
    more than one begins inside: it is made before the first step, rather than at each
    in case it is due, and the worker is returned as it was before.

    Args:
      advance: takes the worker, and whether its run began inside.
      fresh: key -> a worker at the first step of a run.
      worker: where the window begins.
      given: leaves [W + 1, ...], what batches are drawn by.
      fresh_keys: [W], of the run that begins after each step.
      least: fewest steps of a window; W are computed, and masked.
      shortest: least steps of a run.
    """
    most = len(fresh_keys)
    begun = ended = None
    if shortest >= most:
        index = jnp.clip(worker.horizon - worker.step - 1, 0, most - 1)
        begun, ended = fresh(fresh_keys[index]), worker.without_optimizer()

    @jax.checkpoint
    def body(carry, inputs):
        index, of_step, fresh_key = inputs
        before, began, ended = carry
        after, seen = advance((before, began), of_step)
        seen = seen._replace(later=began)
        taken = jnp.bool_(True)
        if least < most:
            taken = index < worker.window
            seen = seen.masked(taken)
        due = taken & (after.step >= after.horizon)
        if ended is not None:
            ended = where(due, after.without_optimizer(), ended)
        new = fresh(fresh_key) if begun is None else begun
        after = where(due, new, after)
        if least < most:
            after = where(taken, after, before)
        return (after, began | due, ended), seen._replace(ended=due)

    inputs = jnp.arange(most), _neighbours(given), fresh_keys
    start = worker, worker.step < 0, ended
    (after, _, ended), steps = jax.lax.scan(body, start, inputs)
    return after, steps, ended


def run(advance: Advance, worker: Worker, given: Any) -> tuple[Worker, Step]:
    """Returns the worker at its horizon, and its steps, rematerialised in segments.

    Args:
      advance: takes an update.
      worker: where the run begins.
      given: as in `window`, of `math.prod(segments(most))` steps and one; so many are
        computed, and those past the horizon masked.
    """
    shape = segments(len(jax.tree.leaves(given)[0]) - 1)

    @jax.checkpoint
    def body(worker, of_step):
        after, seen = advance(worker, of_step)
        taken = worker.step < worker.horizon
        return where(taken, after, worker), seen.masked(taken)

    @jax.checkpoint
    def part(worker, of_steps):
        return jax.lax.scan(body, worker, of_steps)

    parts = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), _neighbours(given))
    after, steps = jax.lax.scan(part, worker, parts)
    return after, jax.tree.map(lambda x: x.reshape(-1), steps)


def segments(num_steps: int) -> tuple[int, int]:
    """Returns how many segments of how many steps cover a run, about as many each.

    >>> segments(100), segments(7)
    ((10, 10), (3, 3))
    """
    segment = math.isqrt(num_steps - 1) + 1
    return -(-num_steps // segment), segment


def _neighbours(given: Any) -> tuple[Any, Any]:
    """Returns those of each step, and of each next step."""
    return jax.tree.map(lambda x: x[:-1], given), jax.tree.map(lambda x: x[1:], given)
