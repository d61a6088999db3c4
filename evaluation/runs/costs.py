"""What a step of training costs with an optimizer: seconds, apart, and memory."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from evaluation.runs import curves, stepping
from evaluation.runs.entrants import Contender
from tasks.base import gradient

STEPS, SECONDS = 20, 0.5  # a program does so many steps, and is repeated so long


class Cost(NamedTuple):
    """What one step of one run costs, compiled, without looks at held-out data.

    Attributes:
      seconds: of loss, gradient and update.
      optimizer_seconds: of the update alone, gradients being given.
      peak_bytes: of arguments, temporaries and results, data apart; by the compiler.
    """

    seconds: float
    optimizer_seconds: float
    peak_bytes: int


def cost(
    track: curves.Track,
    contender: Contender,
    *,
    num_steps: int,
    hyperparameters: dict[str, Any],
) -> Cost:
    """Returns what a step costs, as the median over programs of `STEPS` steps."""
    family = track.family
    tx = optax.with_extra_args_support(
        contender.factory(num_steps=num_steps, **hyperparameters)
    )
    draws, keys, models = track.start(np.zeros(1, int))
    ahead = track.batches(draws, keys, family.data, 0)
    first = jax.tree.map(lambda x: x[0], (draws, models, ahead))
    draw, (params, carried), batches = first
    batch, key = jax.tree.map(lambda x: x[0], batches)
    task = family.task(draw)
    _, _, grads = jax.jit(lambda params: gradient(task, params, key, batch, carried))(
        params
    )
    update = stepping.step(task, tx, None)

    def whole(state: Any, batch_and_key: Any) -> Any:
        return jax.lax.fori_loop(
            0, STEPS, lambda _, state: update(state, batch_and_key)[0], state
        )

    def alone(state: Any, grads: Any) -> Any:
        def step(_: Any, state: Any) -> Any:
            params, opt_state = state
            value = jnp.float32(1.0)
            extra = stepping.offered(value, grads, lambda params: value)
            updates, opt_state = tx.update(grads, opt_state, params, **extra)
            return optax.apply_updates(params, updates), opt_state

        return jax.lax.fori_loop(0, STEPS, step, state)

    state = jax.jit(tx.init)(params)
    seconds, size = _measured(whole, ((params, carried), state), (batch, key))
    return Cost(seconds, _measured(alone, (params, state), grads)[0], size)


def _measured(function: Callable[..., Any], *args: Any) -> tuple[float, int]:
    """Returns seconds a step, and the bytes that the compiled function needs."""
    compiled = jax.jit(function).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    times: list[float] = []
    while len(times) < 3 or (sum(times) < SECONDS and len(times) < 100):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - began)
    memory = compiled.memory_analysis()
    size = (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return statistics.median(times) / STEPS, size
