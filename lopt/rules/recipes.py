"""What a kernel does for each entry of a tensor, and what is done before it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lopt.rules import scalars
from lopt.rules.scalars import Given, Made
from lopt.types import Array

FEWER = 8  # times fewer entries has what is made before the kernel, such as of rows


class Recipe(NamedTuple):
    """A function of entries, written out.

    Attributes:
      operands: flat arrays.
      steps: what is to be made for each entry, each of earlier ones.
      results: tree of numbers and constants.
      dtypes: of the results.
    """

    operands: list[Array]
    steps: list[Made]
    results: Any
    dtypes: Any

    def given(self) -> list[Given]:
        """Returns the numbers of operands that are asked for."""
        asked = [x for step in self.steps for x in step.args]
        asked += jax.tree.leaves(self.results)
        return list(dict.fromkeys(x for x in asked if isinstance(x, Given)))


def recipe(function: Callable[..., Any], whole: Any, tiled: Any, over: Array) -> Recipe:
    """Returns `function(whole, tiled, over)`, written out; see `scalars.results`.

    Numbers that few entries have, such as those of rows, are made here: as operands.
    """
    operands, results, dtypes = scalars.results(function, whole, tiled, over)
    flat = [jnp.ravel(x) for x in operands]
    leaves = jax.tree.leaves(results)
    few: dict[Any, Array] = {}
    steps = []
    for x in _ordered(leaves):
        if FEWER * math.prod(x.shape) > over.size:
            steps.append(x)
        else:
            values = [few[y] if y in few else _array(y, flat) for y in x.args]
            few[x] = computed(x, values, x.shape)
    asked = [*(x for step in steps for x in step.args), *leaves]
    new = _stored({x: few[x] for x in asked if isinstance(x, Made) and x in few}, flat)
    for x in steps:
        args = tuple(new.get(y, y) for y in x.args)
        new[x] = Made(x.shape, x.dtype, x.operation, args)
    results = jax.tree.map(lambda x: new.get(x, x), results)
    return Recipe(flat, [new[x] for x in steps], results, dtypes)


def computed(step: Made, args: list, shape: tuple[int, ...]) -> Array:
    """Returns what an operation makes of arrays, which are broadcast to a shape."""
    wide = [
        x if jnp.shape(x) == shape else jnp.broadcast_to(x, shape) for x in args
    ]  # JAX takes its time even where there is nothing to do
    return step.operation(*wide)


def _array(x: Any, operands: list[Array]) -> Any:
    """Returns a number of an operand for all entries that it has, or a constant."""
    if not isinstance(x, Given):
        return x
    size = math.prod(x.shape)
    return operands[x.operand][x.index * size : (x.index + 1) * size].reshape(x.shape)


def _stored(arrays: dict[Made, Array], operands: list[Array]) -> dict[Any, Any]:
    """Returns the numbers that are in new operands, those of one shape in one."""
    groups: dict[Any, list[Made]] = {}
    for x in arrays:
        groups.setdefault((x.shape, x.dtype), []).append(x)
    new: dict[Any, Any] = {}
    for (shape, dtype), group in groups.items():
        new |= {x: Given(shape, dtype, len(operands), i) for i, x in enumerate(group)}
        operands.append(jnp.concatenate([arrays[x].ravel() for x in group]))
    return new


def _ordered(results: list) -> list[Made]:
    """Returns what is made for results, each after all that it is made of."""
    found: dict[Made, None] = {}
    stack = [x for x in results if isinstance(x, Made)]
    while stack:
        todo = [x for x in stack[-1].args if isinstance(x, Made) and x not in found]
        stack += todo
        if not todo:
            found[stack.pop()] = None
    return list(found)
