"""Running averages of gradients, with meta-learned decays (arXiv:2203.11860)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lopt.types import Array, Float, Theta

MOMENTUM = (0.9, 0.99, 0.999)
RMS = (0.999,)
FACTORED = (0.9, 0.99, 0.999)


class History(NamedTuple):
    """Averages for one tensor of shape [*p], zero at the start, not bias-corrected.

    Attributes:
      momentum: [3, *p], averages of g.
      second: [*p], average of g^2.
      row: [3, *p1], averages of the mean of g^2 over the largest axis d0, which is
        kept with size 1; for rank below 2 [3, *p], averages of g^2 itself.
      col: the same over the second largest axis d1; None for rank below 2.
    """

    momentum: Any
    second: Any
    row: Any
    col: Any


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns `(d0, d1)`, the largest and second largest axes; later wins a tie.

    >>> factored_axes((6, 6)), factored_axes((8, 4, 3, 3))
    ((1, 0), (0, 1))
    """
    order = np.argsort(shape, kind="stable")
    return int(order[-1]), int(order[-2])


def init_decays() -> Theta:
    """Returns the meta-parameters of the decays: offsets, zero at their defaults."""
    sizes = dict(momentum=len(MOMENTUM), rms=len(RMS), factored=len(FACTORED))
    return {name: jnp.zeros(size) for name, size in sizes.items()}


def init(param: Float[Array, "*p"]) -> History:
    """Returns the zero history of `param`, in float32 or wider."""
    dtype = jnp.promote_types(param.dtype, jnp.float32)
    row = col = jnp.zeros((len(FACTORED), *param.shape), dtype)
    if param.ndim >= 2:
        d0, d1 = factored_axes(param.shape)
        row, col = row.mean(d0 + 1, keepdims=True), col.mean(d1 + 1, keepdims=True)
        row, col = jnp.zeros_like(row), jnp.zeros_like(col)
    return History(
        momentum=jnp.zeros((len(MOMENTUM), *param.shape), dtype),
        second=jnp.zeros(param.shape, dtype),
        row=row,
        col=col if param.ndim >= 2 else None,
    )


def update(theta: Theta, grad: Float[Array, "*p"], history: History) -> History:
    """Returns the history after `grad`; `theta` is as `init_decays` makes it."""
    square = jnp.square(grad)
    rms = _decays(RMS, theta["rms"], clip=True)[0]
    factored = _decays(FACTORED, theta["factored"], clip=True)
    if grad.ndim < 2:
        row, col = square, None
    else:
        d0, d1 = factored_axes(grad.shape)
        row = jnp.mean(square + 1e-30, axis=d0, keepdims=True)
        col = jnp.mean(square + 1e-30, axis=d1, keepdims=True)
    momentum = _decays(MOMENTUM, theta["momentum"], clip=False)
    return History(
        momentum=_average(momentum, grad, history.momentum),
        second=rms * history.second + (1 - rms) * square,
        row=_average(factored, row, history.row),
        col=None if col is None else _average(factored, col, history.col),
    )


def filled(theta: Theta, count: Any) -> Theta:
    """Returns the weights that averages give to what they saw, like `init_decays`.

    They are 1 - b^n after n = count + 1 gradients; the rest is the zero at the start.
    """
    starts = {"momentum": MOMENTUM, "rms": RMS, "factored": FACTORED}
    decays = {name: _decays(b, theta[name], clip=True) for name, b in starts.items()}
    return {k: jnp.maximum(1 - b ** (count + 1.0), 1e-6) for k, b in decays.items()}


def _decays(
    start: tuple[float, ...], delta: Float[Array, " d"], *, clip: bool
) -> Float[Array, " d"]:
    """Returns 1 - (1 - start) exp(10 delta)."""
    decay = 1 - (1 - jnp.asarray(start, delta.dtype)) * jnp.exp(10 * delta)
    return jnp.clip(decay, 0, 1) if clip else decay


def _average(decay: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    decay = decay.reshape(-1, *[1] * new.ndim)
    return decay * old + (1 - decay) * new[None]
