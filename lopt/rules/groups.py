"""Which tensors are updated together."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lopt.rules import tiles
from lopt.rules.history import History
from lopt.types import Array

STACKED = 5  # least small tensors of one shape that are stacked
# Most entries of one that is joined with others, so gathered where a mesh splits it.
JOINED = 2**9


class Group(NamedTuple):
    """A tensor, or small ones of one shape that are stacked."""

    grad: Any
    param: Any
    past: History
    ndim: int  # of one tensor


def parts(params: list[Array], *, joined: bool) -> list[list[list[int]]]:
    """Returns which tensors go together, in groups of one shape and dtype.

    A part is a tensor, or a stack of small ones, or, if `joined`, groups of very small
    ones.
    """
    alone: list[list[list[int]]] = []
    small: dict[Any, list[list[list[int]]]] = {}
    groups: dict[Any, list[int]] = {}
    for i, p in enumerate(params):
        if p.size > tiles.limit() or (p.size and tiles.parted(p)):
            alone.append([[i]])
        elif p.size:
            groups.setdefault((p.shape, p.dtype), []).append(i)
    left: dict[Any, int] = {}  # entries of the last part of each dtype
    for (shape, dtype), group in groups.items():
        wide = jnp.promote_types(dtype, jnp.float32)
        parts = small.setdefault(wide, [])
        if not joined or math.prod(shape) > JOINED:
            alone += [[some] for some in _cut(group, math.prod(shape))]
            continue
        for some in _cut(group, math.prod(shape)):
            size = math.prod(shape) * len(some)
            if size > left.get(wide, 0):
                parts.append([])
                left[wide] = tiles.limit()
            left[wide] -= size
            parts[-1].append(some)
    return [*alone, *(x for parts in small.values() for x in parts)]


def _cut(group: list[int], size: int) -> list[list[int]]:
    """Returns tensors of one shape, of so many entries, in stacks or one by one."""
    most = max(1, tiles.limit() // size)
    if len(group) < STACKED:
        most = 1
    return [group[i : i + most] for i in range(0, len(group), most)]


def stacked(indices: list[int], grads: list, params: list, pasts: list) -> Group:
    """Returns some tensors of one shape, stacked if there are several."""
    parts = [(grads[i], params[i], pasts[i]) for i in indices]
    ndim = params[indices[0]].ndim
    if len(parts) > 1:
        parts = [jax.tree.map(lambda *x: jnp.stack(x), *parts)]
    grad, param, past = parts[0]
    grad = grad.astype(jnp.promote_types(grad.dtype, param.dtype))
    return Group(grad, param, past, ndim)


def unstacked(pair: tuple[Array, History], count: int) -> list:
    """Returns the update and the history of each tensor of a group."""
    if count == 1:
        return [pair]
    leaves, structure = jax.tree.flatten(pair)
    tree: Any = structure
    return [tree.unflatten(x) for x in zip(*map(jnp.unstack, leaves), strict=True)]
