"""From history, gradient and parameter to the inputs of the per-parameter MLP.

The inputs are those of arXiv:2203.11860 ("small_fc_lopt"). 23 of its 39 are constant
along a row, a column or the whole tensor and are kept at that rank. Everything but the
scales that normalise them is made entry by entry, so it can be made in tiles.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lopt.rules import tiles
from lopt.rules.history import History, reduced
from lopt.types import Array, Features, Float

# Where each feature stands in the paper's order of 39 (time absolute).
PAPER_ORDER = Features(
    full=(*range(13), 25, 26, 27),
    row=(13, 14, 15, 19, 20, 21),
    col=(16, 17, 18, 22, 23, 24),
    tensor=tuple(range(28, 39)),
)

FULL = 16  # inputs that vary by entry
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


class Given(NamedTuple):
    """What inputs are made of beside gradients: of a tensor, a stack, or a tile.

    Attributes:
      param: [*p].
      history: which contains the gradient.
      unit: mean square that gradients are relative to; sizes 1.
      center: means of the history's rows in this unit; None below rank 2.
    """

    param: Any
    history: History
    unit: Any
    center: Any


def given(
    param: Array, history: History, *, relative: bool, axes: str, ndim: int
) -> Given:
    """Returns what the inputs of a tensor, or of a stack of them, are made of.

    Args:
      param: [*p], or stacked.
      history: which contains the gradient.
      relative: divides gradients by the RMS of the tensor's history and second
        moments by its square first, so that the constants below are relative and the
        inputs do not change when all gradients are multiplied by a constant. With
        False the constants are absolute, as in arXiv:2203.11860.
      axes: over which `history` is factored, a name in `history.AXES`.
      ndim: of one tensor.
    """
    unit = jnp.ones_like(history.second, shape=[1] * param.ndim)
    if relative:  # a constant for differentiation
        unit = _mean(history.second, ndim)
        unit = jax.lax.stop_gradient(jnp.where(unit > 0, unit, 1))
    center = None
    if ndim >= 2:
        _, d1 = reduced(param.shape, axes, ndim)
        center = jnp.mean(jnp.stack(history.row) / unit[None], d1, keepdims=True)
    return Given(param, history, unit, center)


class Parts(NamedTuple):
    """What inputs that vary by entry are made of, relative to the unit: [*p] or less.

    Attributes:
      grad: gradient.
      param: parameter, as it is.
      momentum: three averages of gradients.
      second: average of their squares.
      by_grad: three factors of the gradient.
      by_momentum: three of the momenta.
    """

    grad: Any
    param: Any
    momentum: Any
    second: Any
    by_grad: Any
    by_momentum: Any


def parts(grad: Array, given: Given) -> Parts:
    """Returns what inputs that vary by entry are made of."""
    root, past = jnp.sqrt(given.unit), given.history
    r = jnp.stack(past.row) / given.unit[None]
    if given.center is None:
        by_grad, by_momentum = _bounded_rsqrt(r + 1e-9), jax.lax.rsqrt(r + 1e-6)
        factors = list(by_grad), list(by_momentum)
    else:
        c = jnp.stack(past.col) / given.unit[None]
        rows, cols = _bounded_rsqrt(r / (given.center + 1e-9)), _bounded_rsqrt(c)
        both = [x * y for x, y in zip(rows, cols, strict=True)]
        factors = both, both
    return Parts(
        grad / root,
        given.param.astype(root.dtype),
        [x / root for x in past.momentum],
        past.second / given.unit,
        *factors,
    )


def full(parts: Parts) -> list:
    """Returns the inputs that vary by entry, not normalised: many, and large."""
    g, p, m, v, by_g, by_m = parts
    rsqrt_v = jax.lax.rsqrt(v + 1e-6)
    made = [g, p, *m, v, *(x * rsqrt_v for x in m), rsqrt_v, *(g * x for x in by_g)]
    return made + [x * y for x, y in zip(m, by_m, strict=True)]


def lines(given: Given) -> tuple[Array, Array]:
    """Returns the inputs, not normalised, that vary by row or by column: 6 [*p] each.

    Below rank 2 both are those of the factored moments, which vary by entry.
    """
    pasts = given.history.row, given.history.row
    if given.center is not None:
        pasts = given.history.row, given.history.col
    row, col = (jnp.stack(x) / given.unit[None] for x in pasts)
    row, col = (jnp.concatenate([x, jax.lax.rsqrt(x + 1e-8)]) for x in (row, col))
    return row, col


def mean_squares(grad: Array, given: Given, ndim: int, known: Any = None) -> Features:
    """Returns the mean of the square of each input over its tensor, axes of size 1.

    Args:
      grad: [*p], or stacked.
      given: of it.
      ndim: of one tensor.
      known: those of the inputs that vary by entry, if they are known.
    """
    if known is None:

        def squares(grad: Any, given: Given) -> list:
            made = full(parts(grad, given))
            if given.center is None:
                made += [*lines(given)[0]]
            return [jnp.square(x) for x in made]

        found = tiles.means(squares, (grad, given), ndim)
        if given.center is None:
            return Features(found[:FULL], found[FULL:], found[FULL:], [])
        known = found
    row, col = (_mean(jnp.square(x), ndim) for x in lines(given))
    return Features(known, row, col, [])


def scales(squares: Features) -> Features:
    """Returns what the inputs are multiplied by, of their mean squares."""
    full, row, col = (jax.lax.rsqrt(1e-5 + x) for x in squares[:3])
    return Features(full, row, col, [])


def normalised(x: Array, scale: Array, clip: Any) -> Array:
    """Returns inputs as the network takes them.

    Args:
      x: one or more, as from `full` or `lines`.
      scale: theirs, as from `scales`.
      clip: bound of the normalised inputs, or None. In a tensor of N entries one of
        them may be sqrt(N), more than a rule has seen that was trained on smaller
        tensors; there its steps can be of any size.
    """
    x = x * scale
    return x if clip is None else jnp.clip(x, -clip, clip)


SIGNALS = 8


def signal(
    squares: Features, given: Given, filled: Any, matrices: int, ndim: int
) -> Float[Array, "s *p"]:
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
      squares: of its inputs, as from `mean_squares`.
      given: of it.
      filled: as `history.filled` returns, for moments start at zero.
      matrices: tensors of two axes or more among all that are trained.
      ndim: of one tensor, whose axes have size 1 in what is returned.
    """

    grad, steady = squares.full[0], squares.full[2:5]
    steady = [x / jnp.square(filled["momentum"][i]) for i, x in enumerate(steady)]
    means = tiles.means(
        lambda *x: [y / x[-1] for y in x[:-1]], (*given.history.row, given.unit), ndim
    )
    square = [x / filled["factored"][i] for i, x in enumerate(means)]
    parts = jnp.stack([*steady, *square[:2], grad])
    wholes = jnp.stack([square[i] for i in (0, 1, 2, 2, 2, 0)])
    large = wholes > 1e-20  # or a share's derivative would overflow
    share = jnp.where(large, parts / jnp.where(large, wholes, 1), 1)
    known = [float(ndim >= 2), math.log(max(1, matrices)) - 1]
    rest = jnp.stack([jnp.full_like(steady[0], x) for x in known])
    return jnp.concatenate([jnp.log(share + 1e-4) / 2, rest])


def _mean(x: jax.Array, ndim: int) -> jax.Array:
    """Returns the mean over a tensor; no sum overflows before it."""
    size = math.prod(x.shape[x.ndim - ndim :])
    return jnp.sum(x / size, axis=_last(ndim), keepdims=True)


def _bounded_rsqrt(x: jax.Array) -> jax.Array:
    return jax.lax.rsqrt(jnp.maximum(x, 1e-9))


def _last(ndim: int) -> tuple[int, ...]:
    """Returns the axes of one tensor, counted from the last."""
    return tuple(range(-ndim, 0))
