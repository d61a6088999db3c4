"""Builders of optimizers, all of one signature.

    build(*, num_steps, info=None, learning_rate, schedule="constant", warmup=0.0,
          **own)

`num_steps`, the updates of the run, and all hyperparameters may be traced; `info`, from
`mup.infer`, says how leaves grow with width, which some optimizers need; rate, schedule
and warm-up are those of `schedules.build`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from lopt import mup, schedules

Transformation: TypeAlias = optax.GradientTransformationExtraArgs


def built(optimizer: Callable[..., Any]) -> Callable[..., Transformation]:
    """Returns the builder of what a function makes of a rate.

    Args:
      optimizer: rate, and if it asks for it `info`, then its own hyperparameters by
        keyword -> an Optax transformation. The builder widens its state to float32.
    """
    needs_info = "info" in inspect.signature(optimizer).parameters

    def build(
        *,
        num_steps: Any,
        info: mup.Info | None = None,
        learning_rate: Any,
        schedule: Any = "constant",
        warmup: Any = 0.0,
        **hyperparameters: Any,
    ) -> Transformation:
        if needs_info and info is None:
            name = optimizer.__name__
            raise ValueError(f"{name} needs info=mup.infer(shapes, base_shapes).")
        rate = schedules.build(
            schedule, peak=learning_rate, num_steps=num_steps, warmup=warmup
        )
        leading = (rate, info) if needs_info else (rate,)
        return _wide(optimizer(*leading, **hyperparameters))

    # Before it is wrapped, that the signature be its own too.
    signature = inspect.Signature(_keywords(build) + _keywords(optimizer))
    wrapped: Any = functools.update_wrapper(build, optimizer)
    wrapped.__signature__ = signature
    return wrapped


def _keywords(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def _wide(tx: optax.GradientTransformation) -> Transformation:
    """Returns `tx` with its state in float32 or wider, and updates as gradients are."""
    tx = optax.with_extra_args_support(tx)

    def wide(x: Any) -> jax.Array:
        x = jnp.asarray(x)  # a float of Python too
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    widen = functools.partial(jax.tree.map, wide)

    def update(grads, state, params=None, **extra):
        updates, state = tx.update(widen(grads), state, widen(params), **extra)
        narrow = lambda u, g: u.astype(jnp.asarray(g).dtype)  # noqa: E731
        return jax.tree.map(narrow, updates, grads), state

    return Transformation(lambda p: tx.init(widen(p)), update)
