"""Outputs of the network -> update of one tensor, descent sign included."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lopt.rules.history import History
from lopt.types import Array, Float, Theta


class Head(NamedTuple):
    """How many network outputs a head reads, and what it makes of them.

    Attributes:
      outputs: how many it reads.
      update: `update(outputs, grad, *, step_mult, exp_mult)` takes [outputs, *p] and
        the gradient [*p] of one tensor and returns the update [*p].
      local: whether each entry of the update depends on the outputs and the gradient
        at that entry alone; then outputs may be a list.
      scale: in place of `update`, takes one output [*p], the direction, and how many
        axes a tensor has, and returns what multiplies it, with axes of size 1 where it
        does not vary; or None. A tensor does not move whose gradient is exactly 0.
    """

    outputs: int
    update: Any
    local: bool = False
    scale: Callable[..., Array] | None = None


def exp(
    outputs: Any,
    grad: Float[Array, "*p"],
    *,
    step_mult: float,
    exp_mult: float,
) -> Float[Array, "*p"]:
    """Returns direction times exp(magnitude) (arXiv:2203.11860).

    Args:
      outputs: two of [*p], direction d and log-magnitude e.
      grad: [*p], not used.
      step_mult: multiplies the update.
      exp_mult: multiplies e.
    """
    direction, magnitude = outputs
    return -step_mult * direction * jnp.exp(exp_mult * magnitude)


def normalised(
    direction: Float[Array, "*p"], ndim: int, *, step_mult: float, exp_mult: float
) -> Float[Array, "*p1"]:
    """Returns what brings the direction to RMS `step_mult` over its last two axes.

    After arXiv:2602.19142. Such a rule cannot shrink its own step, so it needs a
    learning-rate schedule after it.

    Args:
      direction: [*p], or stacked.
      ndim: of one tensor.
      step_mult: RMS of the update.
      exp_mult: not used.
    """
    axes = tuple(range(-min(2, ndim), 0))
    wide = direction.astype(jnp.promote_types(direction.dtype, jnp.float32))
    mean_square = jnp.mean(jnp.square(wide), axis=axes, keepdims=True)
    return -step_mult / jnp.sqrt(mean_square + 1e-9)


def bounded(
    update: Float[Array, "*p"], past: History, filled: Theta, *, most: Any
) -> Float[Array, "*p"]:
    """Returns the update, each entry at most `most` times as long as Adam's.

    Adam's step of rate 1 is m / sqrt(v), both corrected for their bias; m is the longer
    of the two shorter momenta. So no entry moves that has never had a gradient, or has
    had none for long, and a few that have one take no longer steps for being few.

    Args:
      update: [*p].
      past: of this tensor.
      filled: of `history`.
      most: > 0.
    """
    # Not a maximum over an axis: its derivative is 0/0 if XLA rounds what it compares
    # with it in another way.
    momentum = jnp.maximum(
        *(jnp.abs(past.momentum[i]) / filled["momentum"][i] for i in range(2))
    )
    square = past.second / filled["rms"][0]
    seen = square > 0  # selected before the root, whose slope at 0 is infinite
    adam = jnp.where(seen, momentum * jax.lax.rsqrt(jnp.where(seen, square, 1)), 0)
    return jnp.clip(update, -most * adam, most * adam)


HEADS = {"exp": Head(2, exp, local=True), "normalised": Head(1, None, scale=normalised)}
