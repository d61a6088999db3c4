"""From history, gradient and parameter to the inputs of the per-parameter MLP.

The inputs are those of arXiv:2203.11860 ("small_fc_lopt"). 23 of its 39 are constant
along a row, a column or the whole tensor and are kept at that rank. Features come
with the scales that normalise them, so that the network can fold the scales into
its first layer rather than pass over the features once more.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from lopt.rules.history import AXES, History
from lopt.types import Array, Features, Float

# Where each feature stands in the paper's order of 39 (time absolute).
PAPER_ORDER = Features(
    full=(*range(13), 25, 26, 27),
    row=(13, 14, 15, 19, 20, 21),
    col=(16, 17, 18, 22, 23, 24),
    tensor=tuple(range(28, 39)),
)

ADAM = 6  # of `full`, the shortest momentum over the root of the second moment

_TAUS = (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)
_SHARES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)

# name -> (count, num_steps) -> [t], all within about [-1, 15]
TIME = {
    "absolute": lambda t, T: jnp.tanh(t / jnp.array(_TAUS) - 1),
    "relative": lambda t, T: jnp.tanh(10 * (t / T - jnp.array(_SHARES))),
    "log": lambda t, T: jnp.log1p(t)[None],
}
TIME_SIZES = {"absolute": len(_TAUS), "relative": len(_SHARES), "log": 1}


def time_features(
    kinds: tuple[str, ...], count: Any, num_steps: Any
) -> Float[Array, " t"]:
    """Returns the time inputs after `count` updates out of `num_steps`."""
    count = jnp.asarray(count, float)  # float64 where that is enabled
    return jnp.concatenate([TIME[kind](count, num_steps) for kind in kinds])


def features(
    param: Float[Array, "*p"],
    grad: Float[Array, "*p"],
    history: History,
    *,
    time: Float[Array, " t"],
    relative: bool,
    clip: float | None,
    filled: Any = None,
    matrices: int = 0,
    axes: str = "size",
) -> tuple[Features, Features]:
    """Returns the inputs of one tensor and the scale that multiplies each of them.

    Args:
      param: [*p].
      grad: [*p], the gradient that `history` already contains.
      history: of this tensor.
      time: [t], not normalised.
      relative: divides gradients by the RMS of the tensor's history and second
        moments by its square first, so that the constants below are relative and the
        inputs do not change when all gradients are multiplied by a constant. With
        False the constants are absolute, as in arXiv:2203.11860.
      clip: bound of the normalised inputs, time apart; or None. In a tensor of N
        entries one of them may be sqrt(N), more than a rule has seen that was trained
        on smaller tensors; there its steps can be of any size.
      filled: of `history`, to add `signal` to the inputs of the tensor; or None.
      matrices: as in `signal`.
      axes: over which `history` is factored, a name in `history.AXES`.

    Returns:
      `Features` and, in the same structure, scales of shape [f], [r], [c], [t].
    """
    if relative:
        grad, history = _rescaled(grad, history)
    g, (m, v) = grad[None], history[:2]
    rsqrt_v = jax.lax.rsqrt(v + 1e-6)[None]
    g_factored, m_factored, row, col = _factored(grad, history, axes)
    full = jnp.concatenate(
        [g, param[None], m, v[None], m * rsqrt_v, rsqrt_v, g_factored, m_factored]
    )
    row = jnp.concatenate([row, jax.lax.rsqrt(row + 1e-8)])
    col = jnp.concatenate([col, jax.lax.rsqrt(col + 1e-8)])
    tensor = time.astype(full.dtype)
    if filled is not None:
        signals = signal(grad, history, filled, matrices).astype(full.dtype)
        tensor = jnp.concatenate([tensor, signals])
    inputs = Features(full, row, col, tensor)
    scales = inputs._replace(
        full=_scale(full),
        row=_scale(row),
        col=_scale(col),
        tensor=jnp.ones_like(tensor),
    )
    if clip is not None:
        inputs = inputs._replace(
            full=_clip(full, clip / scales.full),
            row=_clip(row, clip / scales.row),
            col=_clip(col, clip / scales.col),
        )
    # Else XLA computes them anew for each of their uses: twice the time to compile.
    return jax.lax.optimization_barrier((inputs, scales))


SIGNALS = 8


def signal(
    grad: Float[Array, "*p"], history: History, filled: Any, matrices: int
) -> Float[Array, " s"]:
    """Returns what tells one tensor's steps to be longer or shorter, within [-5, 5].

    The inputs above are normalised over the tensor, so none shows how much of its
    gradients is noise, or whether they grow. These inputs show both. Each of the first
    six is half the logarithm of a ratio of mean squares, so the scale of gradients does
    not matter. Three: for each decay b, of the momentum over the gradients; the ratio
    is 1 where gradients agree, and (1 - b)/(1 + b) where they are noise. Two: of the
    gradients averaged at each shorter decay over those averaged at the longest. One: of
    the present gradient over those averaged at the shortest decay. The seventh input
    says whether the tensor has two axes or more. The last is the logarithm of the
    number of such tensors in the model, less 1, because deep models break sooner.

    Args:
      grad: [*p].
      history: of this tensor, which contains `grad`.
      filled: as `history.filled` returns, for moments start at zero.
      matrices: tensors of two axes or more among all that are trained.
    """
    axes = tuple(range(1, grad.ndim + 1))
    steady = jnp.mean(jnp.square(history.momentum), axis=axes)
    steady = steady / jnp.square(filled["momentum"])
    square = jnp.mean(history.row, axis=axes) / filled["factored"]
    parts = jnp.concatenate([steady, square[:2], jnp.mean(jnp.square(grad))[None]])
    wholes = square[jnp.array([0, 1, 2, 2, 2, 0])]
    large = wholes > 1e-20  # or a share's derivative would overflow
    share = jnp.where(large, parts / jnp.where(large, wholes, 1), 1)
    known = [float(grad.ndim >= 2), math.log(max(1, matrices)) - 1]
    return jnp.concatenate([jnp.log(share + 1e-4) / 2, jnp.array(known, share.dtype)])


def _rescaled(grad: jax.Array, history: History) -> tuple[jax.Array, History]:
    """Divides out the mean square gradient, a constant for differentiation."""
    mean = jnp.sum(history.second / history.second.size)  # no sum may overflow
    mean = jax.lax.stop_gradient(jnp.where(mean > 0, mean, 1))
    rms = jnp.sqrt(mean)
    row, col = jax.tree.map(lambda x: x / mean, (history.row, history.col))
    return grad / rms, History(history.momentum / rms, history.second / mean, row, col)


def _factored(grad: jax.Array, history: History, axes: str) -> tuple[jax.Array, ...]:
    """Returns g R C, m R C, r and c; for rank below 2 their unfactored stand-ins."""
    g, (m, _, r, c) = grad[None], history
    if grad.ndim < 2:
        return g * _bounded_rsqrt(r + 1e-9), m * jax.lax.rsqrt(r + 1e-6), r, r
    _, d1 = AXES[axes](grad.shape)
    relative_row = r / (jnp.mean(r, axis=d1 + 1, keepdims=True) + 1e-9)
    factor = _bounded_rsqrt(relative_row) * _bounded_rsqrt(c)
    return g * factor, m * factor, r, c


def _bounded_rsqrt(x: jax.Array) -> jax.Array:
    return jax.lax.rsqrt(jnp.maximum(x, 1e-9))


def _scale(x: jax.Array) -> jax.Array:
    """Returns 1 / sqrt(1e-5 + mean square) of each feature over its tensor: [f]."""
    return jax.lax.rsqrt(1e-5 + jnp.mean(jnp.square(x), axis=tuple(range(1, x.ndim))))


def _clip(x: jax.Array, bound: jax.Array) -> jax.Array:
    """Returns each feature [f, *p] within its bound [f]."""
    bound = bound.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.clip(x, -bound, bound)
