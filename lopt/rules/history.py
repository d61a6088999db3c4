"""Running averages of gradients, with meta-learned decays (arXiv:2203.11860)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lopt.types import Array, Float, Params, Theta

MOMENTUM = (0.9, 0.99, 0.999)
RMS = (0.999,)
FACTORED = (0.9, 0.99, 0.999)


class History(NamedTuple):
    """Averages for one tensor of shape [*p], zero at the start, not bias-corrected.

    In the state of an optimizer arrays are trees of them like params: tools of Optax
    and Flax map over what has the structure and the rank of params. Where tensors of
    one shape are stacked, arrays have one more axis, before those of [*p].

    Attributes:
      momentum: `Paces` of [*p], averages of g.
      second: [*p], average of g^2.
      row: `Paces` of [*p1], averages of the mean of g^2 over the axis d0 (see `AXES`),
        which is kept with size 1; for rank below 2 of [*p], averages of g^2 itself.
      col: the same over the axis d1; not used for rank below 2, where all axes have
        size 1.
    """

    momentum: Any
    second: Any
    row: Any
    col: Any


class Paces(NamedTuple):
    """Three averages of one quantity, from the shortest memory to the longest."""

    short: Any
    middle: Any
    long: Any


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns `(d0, d1)`, the largest and second largest axes; later wins a tie.

    >>> factored_axes((6, 6)), factored_axes((8, 4, 3, 3))
    ((1, 0), (0, 1))
    """
    order = np.argsort(shape, kind="stable")
    return int(order[-1]), int(order[-2])


def fan_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns `(d0, d1)`, fan-out and fan-in as Flax lays out kernels: the last two.

    So what a rule makes of a leaf does not change as one of them outgrows the other.

    >>> fan_axes((256, 255)), fan_axes((3, 3, 8, 4))
    ((1, 0), (3, 2))
    """
    return len(shape) - 1, len(shape) - 2


# name -> (shape, of rank 2 or more) -> (d0, d1)
AXES = {"size": factored_axes, "fans": fan_axes}


def init_decays() -> Theta:
    """Returns the meta-parameters of the decays: offsets, zero at their defaults."""
    sizes = dict(momentum=len(MOMENTUM), rms=len(RMS), factored=len(FACTORED))
    return {name: jnp.zeros(size) for name, size in sizes.items()}


def init(param: Float[Array, "*p"], axes: str = "size") -> History:
    """Returns the zero history of `param`, in float32 or wider, not stacked.

    Zeros are made from the parameter, so that they lie where it does on a mesh and vary
    where it does inside `shard_map`. Each is a buffer of its own, so that all may be
    donated.

    Args:
      param: [*p].
      axes: name in `AXES`.
    """
    dtype = jnp.promote_types(param.dtype, jnp.float32)
    row_axes: tuple[int, ...] = ()
    col_axes = tuple(range(param.ndim))
    if param.ndim >= 2:
        row_axes, col_axes = ((axis,) for axis in AXES[axes](param.shape))

    def zeros(axes: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros_like(param, dtype).sum(axes, keepdims=True)

    return History(
        momentum=Paces(*(zeros() for _ in MOMENTUM)),
        second=zeros(),
        row=Paces(*(zeros(row_axes) for _ in FACTORED)),
        col=Paces(*(zeros(col_axes) for _ in FACTORED)),
    )


def of_leaves(history: History, params: Params) -> list[History]:
    """Returns the history of each leaf of params, from one whose fields are trees."""
    fields = jax.tree.map(
        lambda tree, field: tree.flatten_up_to(field), _structures(params), history
    )
    count = len(fields.second)
    return [
        jax.tree.map(lambda field, i=i: field[i], fields, is_leaf=_is_list)
        for i in range(count)
    ]


def of_trees(histories: list[History], params: Params) -> History:
    """Returns the history whose fields are trees, from that of each leaf of params."""
    return jax.tree.map(
        lambda tree, *leaves: tree.unflatten(leaves), _structures(params), *histories
    )


def update(
    theta: Theta, grad: Float[Array, "*p"], history: History, axes: str, ndim: int
) -> History:
    """Returns the history after `grad`.

    Args:
      theta: as from `init_decays`.
      grad: [*p], or stacked.
      history: before it.
      axes: as in `init`.
      ndim: of a tensor that is not stacked.
    """
    grad = grad.astype(history.second.dtype)
    square = jnp.square(grad)
    rms = _decays(RMS, theta["rms"], clip=True)[0]
    factored = _decays(FACTORED, theta["factored"], clip=True)
    if ndim < 2:
        row, col = square, None
    else:
        d0, d1 = reduced(grad.shape, axes, ndim)
        # Of different multiples, or XLA would keep squares, as large as the tensor.
        row = mean_square(grad, d0) + 1e-30
        col = 4 * mean_square(grad / 2, d1) + 1e-30
    momentum = _decays(MOMENTUM, theta["momentum"], clip=False)
    return History(
        momentum=_average(momentum, grad, history.momentum),
        second=rms * history.second + (1 - rms) * square,
        row=_average(factored, row, history.row),
        col=history.col if col is None else _average(factored, col, history.col),
    )


def reduced(shape: tuple[int, ...], axes: str, ndim: int) -> tuple[int, int]:
    """Returns `(d0, d1)`, counted from the last axis, of a tensor or of a stack.

    >>> reduced((5, 3, 2), "fans", 2)
    (-1, -2)
    """
    d0, d1 = AXES[axes](shape[len(shape) - ndim :])
    return d0 - ndim, d1 - ndim


def filled(theta: Theta, count: Any) -> Theta:
    """Returns the weights that averages give to what they saw, like `init_decays`.

    They are 1 - b^n after n = count + 1 gradients; the rest is the zero at the start.
    """
    starts = {"momentum": MOMENTUM, "rms": RMS, "factored": FACTORED}
    decays = {name: _decays(b, theta[name], clip=True) for name, b in starts.items()}
    return {k: jnp.maximum(1 - b ** (count + 1.0), 1e-6) for k, b in decays.items()}


def mean_square(x: Float[Array, "*p"], axis: int) -> Float[Array, "*p1"]:
    """Returns the mean square over an axis, which stays; no sum overflows before it."""
    return jnp.sum(jnp.square(x * x.shape[axis] ** -0.5), axis=axis, keepdims=True)


def _decays(
    start: tuple[float, ...], delta: Float[Array, " d"], *, clip: bool
) -> Float[Array, " d"]:
    """Returns 1 - (1 - start) exp(10 delta)."""
    decay = 1 - (1 - jnp.asarray(start, delta.dtype)) * jnp.exp(10 * delta)
    return jnp.clip(decay, 0, 1) if clip else decay


def _average(decays: jax.Array, new: jax.Array, old: Paces) -> Paces:
    return Paces(*(b * x + (1 - b) * new for b, x in zip(decays, old, strict=True)))


def _structures(params: Params) -> History:
    """Returns the structure of each field's trees.

    Rows and columns are not boxed, because metadata of Flax, such as the mesh axes of
    a kernel, are about axes that are reduced here.
    """
    full, bare = map(jax.tree.structure, (params, _unboxed(params)))
    return History(Paces(*[full] * 3), full, Paces(*[bare] * 3), Paces(*[bare] * 3))


def _unboxed(params: Params) -> Params:
    """Returns params without boxes: of Flax linen's metadata, or NNX's variables."""

    def content(x: Any) -> Any:
        return jax.tree.leaves(x, is_leaf=lambda y: y is not x)[0] if _is_box(x) else x

    return jax.tree.map(content, params, is_leaf=_is_box)


def _is_box(x: Any) -> bool:
    """Returns whether x has axes with names, without importing Flax."""
    return hasattr(x, "add_axis") and hasattr(x, "remove_axis")


def _is_list(x: Any) -> bool:
    return isinstance(x, list)
