"""Work on a large tensor, done tile by tile, so that nothing else than it is large."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lopt.rules.sharded import locally
from lopt.types import Array

# Of a tile, by the backend that JAX uses by default: what fits the cache of a core, and
# what keeps an accelerator busy.
ENTRIES = {"cpu": 2**15}
OTHERWISE = 2**20


def mapped(
    function: Callable[[Any, Any, Any], Array],
    whole: Any,
    tiled: Any,
    over: Array,
    least: int = 1,
    *,
    apart: bool = True,
) -> Array:
    """Returns `function(whole, tiled, over)`, which may lie where `over` did.

    Args:
      function: makes each entry of the entries at its place alone.
      whole: tree of arrays that it needs whole.
      tiled: tree of arrays with the axes of `over`, or size 1 in their place, last.
      over: a tensor, or a stack of small ones.
      least: fewest tiles, if there are so many entries. A loop over two keeps XLA from
        making the function anew for each use of its result.
      apart: whether devices may have parts of `over`.
    """
    if over.size <= min(limit(), -(-over.size // least)) or parted(over):
        return function(whole, tiled, over).astype(over.dtype)
    of_tile = jax.checkpoint(function)

    def loop(whole: Any, tiled: Any, over: Array) -> Array:
        def put(tile: _Tile, carry: tuple) -> tuple:
            # The last tile is put here: XLA uses one core to make what it also puts.
            out, last, starts = carry
            out = jax.lax.dynamic_update_slice(out, last, starts)
            old = tile.cut(out)
            made = of_tile(whole, jax.tree.map(tile.cut, tiled), old)
            made = jnp.where(tile.new, made.astype(out.dtype), old)  # each entry once
            return out, made, jnp.stack(tile.starts)

        entries = min(limit(), -(-over.size // least))
        starts = jnp.zeros(over.ndim, int)
        first = jax.lax.dynamic_slice(over, starts, sizes(over.shape, entries))
        out, *last = _loop(put, (over, first, starts), over.shape, entries)
        return jax.lax.dynamic_update_slice(out, *last)

    return locally(loop, whole, tiled, over) if apart else loop(whole, tiled, over)


def means(function: Callable[..., Any], tiled: Any, ndim: int) -> Any:
    """Returns the means of a tree of arrays `function(*tiled)` over their last axes.

    Args:
      function: as in `mapped`.
      tiled: sequence, as in `mapped`, of which the first is a tensor or a stack.
      ndim: how many axes are those of one tensor; they stay, with size 1.
    """
    shape = tiled[0].shape
    size = math.prod(shape[len(shape) - ndim :])
    if math.prod(shape) <= limit() or parted(tiled[0]):
        last = tuple(range(-ndim, 0))
        return jax.tree.map(lambda x: x.mean(last, keepdims=True), function(*tiled))
    of_tile = jax.checkpoint(function)

    def loop(whole: tuple, tiled: Any, over: Array) -> Any:
        like = jax.eval_shape(function, over, *tiled)

        def add(tile: _Tile, sums: Any) -> Any:
            new = of_tile(*jax.tree.map(tile.cut, (over, *tiled)))
            return jax.tree.map(lambda x, y: x + tile.sum(y), sums, new)

        # Made from the arrays, so that they vary where those do inside `shard_map`.
        firsts = [x.ravel()[0] for x in jax.tree.leaves((over, tiled))]
        zero: Any = sum(jnp.zeros_like(x) for x in firsts)
        zeros = jax.tree.map(lambda x: zero.astype(x.dtype), like)
        return _loop(add, zeros, over.shape, limit())

    sums = locally(loop, (), tuple(tiled[1:]), tiled[0], sums=True)
    return jax.tree.map(lambda x: (x / size).reshape([1] * len(shape)), sums)


def limit() -> int:
    """Returns the most entries of a tile."""
    return ENTRIES.get(jax.default_backend(), OTHERWISE)


def parted(x: Array) -> bool:
    """Returns whether the type of an array says that devices have parts of it.

    So it does on a mesh of explicit axes, where a part of a tensor has no type.
    """
    return any(jax.typeof(x).sharding.spec)


def sizes(shape: tuple[int, ...], entries: int) -> tuple[int, ...]:
    """Returns the shape of tiles that are contiguous, of about so many entries.

    >>> sizes((512, 512), 2**15), sizes((2, 2**20), 2**15), sizes((3, 3, 4), 2**15)
    ((64, 512), (1, 32768), (3, 3, 4))
    """
    rest = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    most = [max(1, min(n, entries // m)) for n, m in zip(shape, rest, strict=True)]
    return tuple(-(-n // -(-n // m)) for n, m in zip(shape, most, strict=True))


class _Tile:
    """Where a tile is: the i-th of those of some sizes, in a tensor of some shape.

    The last along an axis may overlap the one before it.
    """

    def __init__(self, i: Any, sizes: tuple[int, ...], shape: tuple[int, ...]):
        place: list[Any] = []
        for n, size in zip(shape[::-1], sizes[::-1], strict=True):
            i, j = jnp.divmod(i, -(-n // size))
            place.append(j * size)
        begin = place[::-1]
        self.sizes = sizes
        self.starts = [
            jnp.minimum(x, n - size)
            for x, n, size in zip(begin, shape, sizes, strict=True)
        ]
        # At most one axis is cut in parts of more than one entry.
        axes = range(len(shape))
        self.axis = next((i for i in axes if 1 < sizes[i] < shape[i]), 0)
        at = self.starts[self.axis] + jnp.arange(sizes[self.axis])
        new = at >= begin[self.axis]
        self.new = new.reshape([-1 if i == self.axis else 1 for i in axes])

    def cut(self, x: Array) -> Array:
        """Returns the part of an array that belongs to the tile."""
        lead = x.shape[: x.ndim - len(self.sizes)]
        axes = zip(x.shape[len(lead) :], self.starts, self.sizes, strict=True)
        cuts: list[Any] = [(0, n) for n in lead]
        cuts += [(i, size) if n > 1 else (0, 1) for n, i, size in axes]
        starts, parts = zip(*cuts, strict=True)
        return jax.lax.dynamic_slice(x, starts, parts)

    def sum(self, x: Array) -> Array:
        """Returns the sum of a tile's array, without what was in the tile before it."""
        return jnp.where(self.new, x, 0).sum()


def _loop(
    body: Callable[[_Tile, Any], Any], start: Any, shape: Any, entries: int
) -> Any:
    """Returns what `body` makes of a start with one tile after the other."""
    shape = tuple(shape)
    parts = sizes(shape, entries)
    count = math.prod(-(-n // size) for n, size in zip(shape, parts, strict=True))
    return jax.lax.fori_loop(
        0, count, lambda i, x: body(_Tile(i, parts, shape), x), start
    )
