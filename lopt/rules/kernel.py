"""One kernel in place of a loop over tiles, on GPUs: Pallas, by way of Triton.

Each program of the kernel takes a block of a tensor's entries, loads what the entries
are made of once, keeps all inputs and units in registers, and stores one number an
entry, or adds up. What it computes is a function that `recipes` wrote out.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lopt.names import known
from lopt.rules import recipes
from lopt.rules.blocks import Block
from lopt.rules.recipes import Recipe
from lopt.rules.scalars import Unwritten
from lopt.types import Array

LEAST = 2**16  # entries of a tensor, below which a kernel's launch costs more
MAPPED, SUMMED = 512, 256  # entries of a block; powers of two
PROGRAMS = 2**11  # most that add up
WARPS = 4  # of a program, 32 threads each
MODES = ("auto", "on", "off", "interpret")

_mode = contextvars.ContextVar("kernels", default="auto")


@contextlib.contextmanager
def kernels(mode: str) -> Iterator[None]:
    """Chooses how large tensors are updated by programs that are traced inside.

    Args:
      mode: "auto": by kernels in programs for NVIDIA GPUs, if JAX runs on one; "on": in
        such programs, wherever they are traced; "off": by XLA alone; "interpret":
        tensors of all sizes by kernels that Pallas interprets: slow, for tests.

    Raises:
      ValueError: for another mode, listing these.

    >>> with kernels("of"):
    ...     pass
    Traceback (most recent call last):
    ValueError: unknown mode 'of'; known: auto, on, off, interpret. Did you mean 'off'?
    """
    known("mode", mode, MODES)
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def mode() -> str:
    """Returns the mode that `kernels` has chosen."""
    return _mode.get()


def chosen(over: Array) -> bool:
    """Returns whether a tensor's entries are for a kernel, if its program has kernels.

    Inside `shard_map` they are not, because Pallas does not know there what varies.
    """
    now = mode()
    if now == "off" or over.size > 2**31 - 2**24:  # places are int32
        return False
    if jax.sharding.get_abstract_mesh().manual_axes:
        return False
    if now == "interpret":
        return True
    return over.size > LEAST and (now == "on" or jax.default_backend() == "gpu")


def mapped(function: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    """Returns what does what `function` does for each entry; see `tiles.mapped`.

    Args:
      function: of whole and tiled operands and a tensor.
      plain: does the same, for devices without kernels and functions beyond them.
    """

    def kernel(mode: str, whole: Any, tiled: Any, over: Array) -> Array:
        recipe = recipes.recipe(function, whole, tiled, over)
        return _entries(recipe, over, interpret=mode == "interpret")

    return _either(kernel, plain)


def summed(function: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    """Returns what adds up the entries of the arrays that `function` makes.

    Args:
      function: as in `mapped`, which makes a list of arrays.
      plain: does the same, as there.
    """

    def kernel(mode: str, whole: Any, tiled: Any, over: Array) -> Array:
        recipe = recipes.recipe(function, whole, tiled, over)
        return _sums(recipe, over, interpret=mode == "interpret")

    return _either(kernel, plain)


def _either(kernel: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    """Returns what takes the kernel where it runs."""
    now = mode()  # not that of the time when XLA asks what a device does

    def either(*args: Any) -> Any:
        def fast(*args: Any) -> Any:
            return kernel(now, *args)

        if any(x.dtype.itemsize > 4 for x in jax.tree.leaves(args)):
            return plain(*args)
        try:
            if now == "interpret":
                return fast(*args)
            return jax.lax.platform_dependent(*args, cuda=fast, default=plain)
        except Unwritten:
            return plain(*args)

    return either


def _entries(recipe: Recipe, over: Array, *, interpret: bool) -> Array:
    """Returns the one result, for each entry of a tensor."""

    def program(block: Any, out: Any, i: Any) -> None:
        at = i * MAPPED + jnp.arange(MAPPED, dtype=jnp.int32)
        (found,) = block(at)
        _triton().store(out.at[at], found.astype(out.dtype), mask=at < over.size)

    out = jax.ShapeDtypeStruct((over.size,), over.dtype)
    grid = -(-over.size // MAPPED)
    found = _call(program, recipe, over.shape, out, grid=grid, interpret=interpret)
    return found.reshape(over.shape)


def _sums(recipe: Recipe, over: Array, *, interpret: bool) -> Array:
    """Returns the sums of the n results over all entries of a tensor, [n]."""
    results = jax.tree.leaves(recipe.results)
    grid = min(PROGRAMS, -(-over.size // SUMMED))
    rounds = -(-over.size // (grid * SUMMED))

    def program(block: Any, out: Any, i: Any) -> None:
        def add(turn: Any, sums: Any) -> Any:
            first = (turn.astype(jnp.int32) * grid + i) * SUMMED
            at = first + jnp.arange(SUMMED, dtype=jnp.int32)
            made = [x.astype(jnp.float32) for x in block(at)]
            made = [jnp.where(at < over.size, x, 0) for x in made]
            return [x + y for x, y in zip(sums, made, strict=True)]

        zeros = [jnp.zeros(SUMMED, jnp.float32) for _ in results]
        sums = jax.lax.fori_loop(0, rounds, add, zeros)
        for j, x in enumerate(sums):
            _triton().store(out.at[j * grid + i], x.sum())

    out = jax.ShapeDtypeStruct((len(results) * grid,), jnp.float32)
    found = _call(program, recipe, over.shape, out, grid=grid, interpret=interpret)
    sums = found.reshape(len(results), grid).sum(1)
    return sums.astype(jnp.result_type(*jax.tree.leaves(recipe.dtypes)))


def _call(
    program: Callable[..., None],
    recipe: Recipe,
    shape: tuple[int, ...],
    out: Any,
    *,
    grid: int,
    interpret: bool,
) -> Array:
    """Returns what the programs of a kernel store.

    Args:
      program: takes what makes results at some places, the array that it stores into,
        and its index.
      recipe: of the function.
      shape: of the tensor.
      out: shape and dtype of what is stored.
      grid: how many programs there are.
      interpret: whether Pallas interprets the kernel.
    """
    from jax.experimental import pallas  # takes a while, and CPUs need none

    used = sorted({x.operand for x in recipe.given()})
    operands = [recipe.operands[i] for i in used]
    # Kernels load no booleans.
    operands = [x.astype(jnp.int8) if x.dtype == bool else x for x in operands]

    def kernel(*refs: Any) -> None:
        block = Block(recipe, dict(zip(used, refs[:-1], strict=True)), shape)
        program(block, refs[-1], pallas.program_id(0))

    call = pallas.pallas_call(
        kernel,
        out_shape=out,
        grid=(grid,),
        interpret=interpret,
        compiler_params=_triton().CompilerParams(num_warps=WARPS),
        name="lopt_entries",
    )
    return call(*operands)


def _triton() -> Any:
    """Returns what Pallas has for GPUs, which takes a while to import."""
    from jax.experimental.pallas import triton

    return triton
