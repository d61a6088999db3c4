"""Work on a large tensor, done tile by tile, so that nothing else than it is large.

Or, on a GPU, by a kernel.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lopt.rules import kernel
from lopt.rules.sharded import locally
from lopt.types import Array

# Of a tile, and of its units in one layer, by the backend that JAX uses by default:
# what fits the cache of a core, and what keeps an accelerator busy.
ENTRIES = {"cpu": 2**15}
UNITS = {"cpu": 2**18}
OTHERWISE = 2**20, 2**25
LEAST = 2**5  # entries, however many copies there are

_copies = contextvars.ContextVar("copies", default=1)


@contextlib.contextmanager
def copies(count: int) -> Iterator[None]:
    """Tells rules that are traced inside that `vmap` makes so many copies of them.

    On CPUs tiles are smaller by as much, so that those of all copies fit the cache.
    Contexts multiply.
    """
    token = _copies.set(_copies.get() * count)
    try:
        yield
    finally:
        _copies.reset(token)


def mapped(
    function: Callable[[Any, Any, Any], Array],
    whole: Any,
    tiled: Any,
    over: Array,
    least: int = 1,
    *,
    apart: bool = True,
    later: bool = False,
    units: int = 1,
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
      later: whether a tile is put into its place a turn later: XLA uses one core to
        make what it puts in the same turn.
      units: of one layer that an entry is made of, if all are made at once.
    """
    entries = min(limit(units), -(-over.size // least))

    def at_once(whole: Any, tiled: Any, over: Array) -> Array:
        return function(whole, tiled, over).astype(over.dtype)

    if parted(over):
        return at_once(whole, tiled, over)
    of_tile = jax.checkpoint(function)

    def loop(whole: Any, tiled: Any, over: Array) -> Array:
        def made(tile: _Tile, out: Array) -> Array:
            old = tile.cut(out)
            new = of_tile(whole, jax.tree.map(tile.cut, tiled), old)
            return jnp.where(tile.new, new.astype(out.dtype), old)  # each entry once

        def put(tile: _Tile, out: Array) -> Array:
            return jax.lax.dynamic_update_slice(out, made(tile, out), tile.starts)

        def put_last(tile: _Tile, carry: tuple) -> tuple:
            out = jax.lax.dynamic_update_slice(*carry)
            return out, made(tile, out), jnp.stack(tile.starts)

        if not later:
            return _loop(put, over, over.shape, entries)
        starts = jnp.zeros(over.ndim, int)
        first = jax.lax.dynamic_slice(over, starts, sizes(over.shape, entries))
        carry = _loop(put_last, (over, first, starts), over.shape, entries)
        return jax.lax.dynamic_update_slice(*carry)

    small = over.size <= entries
    plain = at_once if small else loop
    if apart and kernel.chosen(over):
        fast = kernel.mapped(function, plain)
        return locally(fast, whole, tiled, over, plain=plain)
    if small or not apart:
        return plain(whole, tiled, over)
    return locally(loop, whole, tiled, over)


def means(function: Callable[..., list], tiled: Any, ndim: int) -> Array:
    """Returns the means of n arrays `function(*tiled)` over their last axes, [n, ...].

    Args:
      function: as in `mapped`, of which it returns a list.
      tiled: sequence, as in `mapped`, of which the first is a tensor or a stack.
      ndim: how many axes are those of one tensor; they stay, with size 1.
    """
    shape = tiled[0].shape
    size = math.prod(shape[len(shape) - ndim :])
    small = math.prod(shape) <= limit()
    fast = ndim == len(shape) and kernel.chosen(tiled[0])
    if (small and not fast) or parted(tiled[0]):
        last = tuple(range(-ndim, 0))
        return jnp.stack([x.mean(last, keepdims=True) for x in function(*tiled)])
    of_tile = jax.checkpoint(function)

    def at_once(whole: tuple, tiled: Any, over: Array) -> Array:
        return jnp.stack([x.sum() for x in function(over, *tiled)])

    def loop(whole: tuple, tiled: Any, over: Array) -> Array:
        like = jax.eval_shape(function, over, *tiled)

        def add(tile: _Tile, sums: Array) -> Array:
            new = of_tile(*jax.tree.map(tile.cut, (over, *tiled)))
            return sums + jnp.stack([tile.sum(x) for x in new])

        # Made from the arrays, so that they vary where those do inside `shard_map`.
        firsts = [x.ravel()[0] for x in jax.tree.leaves((over, tiled))]
        zero: Any = sum(jnp.zeros_like(x) for x in firsts)
        zeros = jnp.broadcast_to(zero.astype(like[0].dtype), len(like))
        return _loop(add, zeros, over.shape, limit())

    plain = at_once if small else loop
    adds = plain
    if fast:
        adds = kernel.summed(lambda whole, tiled, over: function(over, *tiled), plain)
    sums = locally(adds, (), tuple(tiled[1:]), tiled[0], sums=True, plain=plain)
    return (sums / size).reshape(-1, *[1] * len(shape))


def limit(units: int = 1) -> int:
    """Returns the most entries of a tile, which has so many units an entry."""
    backend = jax.default_backend()
    entries = ENTRIES.get(backend, OTHERWISE[0])
    most = min(entries, UNITS.get(backend, OTHERWISE[1]) // units)
    return max(min(most, LEAST), most // (_copies.get() if backend in ENTRIES else 1))


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
