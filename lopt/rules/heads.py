"""Outputs of the network -> update of one tensor, descent sign included."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lopt.rules.history import History
from lopt.types import Array, Float, Theta


class Head(NamedTuple):
    """How many network outputs a head reads, and what it makes of them.

    `update(outputs, grad, *, step_mult, exp_mult)` takes [outputs, *p] and the
    gradient [*p] and returns the update [*p].
    """

    outputs: int
    update: Callable[..., Float[Array, "*p"]]


def exp(
    outputs: Float[Array, "2 *p"],
    grad: Float[Array, "*p"],
    *,
    step_mult: float,
    exp_mult: float,
) -> Float[Array, "*p"]:
    """Returns direction times exp(magnitude) (arXiv:2203.11860).

    Args:
      outputs: [2, *p], direction d and log-magnitude e.
      grad: [*p], not used.
      step_mult: multiplies the update.
      exp_mult: multiplies e.
    """
    direction, magnitude = outputs
    return -step_mult * direction * jnp.exp(exp_mult * magnitude)


def normalised(
    outputs: Float[Array, "1 *p"],
    grad: Float[Array, "*p"],
    *,
    step_mult: float,
    exp_mult: float,
) -> Float[Array, "*p"]:
    """Returns the direction at RMS `step_mult` over its last two axes (2602.19142).

    It cannot shrink its own step, so it needs a learning-rate schedule after it. A
    leaf whose gradient is exactly zero does not move.

    Args:
      outputs: [1, *p], the direction.
      grad: [*p].
      step_mult: RMS of the update.
      exp_mult: not used.
    """
    (direction,) = outputs
    axes = tuple(range(max(0, direction.ndim - 2), direction.ndim))
    mean_square = jnp.mean(jnp.square(direction), axis=axes, keepdims=True)
    update = -step_mult * direction / jnp.sqrt(mean_square + 1e-9)
    return jnp.where(jnp.any(grad != 0), update, 0)


def bounded(
    update: Float[Array, "*p"], past: History, filled: Theta, *, most: float
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


HEADS = {"exp": Head(2, exp), "normalised": Head(1, normalised)}
