"""Work that each device does for its part of a tensor, where a mesh splits it."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lopt.types import Array


def locally(
    function: Callable[[Any, Any, Array], Any],
    whole: Any,
    tiled: Any,
    over: Array,
    *,
    sums: bool = False,
) -> Any:
    """Returns `function(whole, tiled, over)`, made by each device for its part of it.

    XLA's partitioner would gather a tensor that a loop goes through tile by tile. Under
    `vmap` and in derivatives it is left to do so.

    Args:
      function: makes each entry of the entries at its place alone, or sums.
      whole: tree of arrays that it needs whole.
      tiled: tree of arrays with the axes of `over`, or size 1 in their place, last.
      over: a tensor.
      sums: whether it returns sums over all entries, a tree of scalars.
    """
    shape = over.shape

    def partition(mesh: Mesh, args: Any, result: Any) -> Any:
        spec = _even(mesh, shape, args[-1].sharding.spec)
        names = tuple(name for entry in spec for name in _names(entry))

        def lower(*args: Any) -> Any:
            made = function(*args)
            return jax.lax.psum(made, names) if sums and names else made

        placed = jax.tree.map(
            lambda x: NamedSharding(mesh, _like(spec, shape, x.shape)), args[1:]
        )
        nowhere = NamedSharding(mesh, P())
        first = jax.tree.map(lambda x: nowhere, args[0])
        made = jax.tree.map(
            lambda x: nowhere if sums else NamedSharding(mesh, P(*spec)), result
        )
        return mesh, lower, made, (first, *placed)

    split = custom_partitioning(function)
    count = len(jax.tree.leaves(jax.eval_shape(function, whole, tiled, over)))
    split.def_partition(
        partition, sharding_rule=_rule(shape, whole, (tiled, over), sums * count)
    )

    @custom_vmap
    def batched(*args: Any) -> Any:
        return split(*args)

    @batched.def_vmap
    def _(size: int, axes: Any, *args: Any) -> Any:
        axes = jax.tree.map(lambda x: 0 if x else None, axes)
        made = jax.vmap(function, tuple(axes), axis_size=size)(*args)
        return made, jax.tree.map(lambda x: True, made)

    differentiable = jax.custom_jvp(lambda *args: batched(*args))
    differentiable.defjvp(lambda at, along: jax.jvp(function, at, along))
    return differentiable(whole, tiled, over)


def _rule(shape: tuple[int, ...], whole: Any, tiled: Any, sums: int) -> str:
    """Returns which axes of operands and results are split alike, as an einsum."""
    names = iter(f"x{i}" for i in range(10**6))

    def alike(x: Any) -> str:
        lead = x.ndim - len(shape)
        here = zip(x.shape[lead:], shape, strict=True)
        axes = [f"d{i}" if n == m else next(names) for i, (n, m) in enumerate(here)]
        return " ".join([*(next(names) for _ in range(lead)), *axes])

    operands = [
        " ".join(next(names) for _ in range(x.ndim)) for x in jax.tree.leaves(whole)
    ]
    operands += [alike(x) for x in jax.tree.leaves(tiled)]
    entries = " ".join(f"d{i}" for i in range(len(shape)))
    results = [""] * sums or [entries]
    return f"{', '.join(operands)} -> {', '.join(results)}"


def _even(mesh: Mesh, shape: tuple[int, ...], spec: Any) -> list:
    """Returns by which axes of the mesh each axis is split, where parts are equal."""
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    parts = [math.prod(mesh.shape[name] for name in _names(x)) for x in entries]
    return [
        entry if n % part == 0 else None
        for entry, n, part in zip(entries, shape, parts, strict=True)
    ]


def _like(spec: list, shape: tuple[int, ...], other: tuple[int, ...]) -> P:
    """Returns how an array is split that has the axes of a tensor, or 1 in place."""
    lead = len(other) - len(shape)
    here = zip(spec, shape, other[lead:], strict=True)
    return P(*[None] * lead, *(entry if n == m else None for entry, n, m in here))


def _names(entry: Any) -> tuple[str, ...]:
    """Returns the axes of the mesh that split an axis."""
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)
