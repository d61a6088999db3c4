"""Blocks of a tensor's entries, as programs of kernels have them."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from lopt.rules import recipes
from lopt.rules.recipes import Recipe
from lopt.rules.scalars import Given
from lopt.types import Array


class Block:
    """Makes results at some places, of what is loaded there."""

    def __init__(self, recipe: Recipe, refs: Any, shape: tuple[int, ...]):
        """Takes a function, references to its operands, and a tensor's shape."""
        self._recipe, self._refs, self._shape = recipe, refs, shape
        given = recipe.given()
        self._given = [x for x in given if math.prod(x.shape) > 1]
        alike = [x for x in given if math.prod(x.shape) == 1]
        self._alike = {x: _typed(refs[x.operand][x.index], x) for x in alike}

    def __call__(self, at: Array) -> list[Array]:
        """Returns the results at places in the flat tensor."""
        from jax.experimental.pallas import triton  # takes a while, and CPUs need none

        inside = at < math.prod(self._shape)
        known: dict[Any, Any] = dict(self._alike)
        offsets = {x.shape: _offsets(at, x.shape, self._shape) for x in self._given}
        for x in self._given:
            place = x.index * math.prod(x.shape) + offsets[x.shape]
            ref = self._refs[x.operand].at[place]
            known[x] = _typed(triton.load(ref, mask=inside, other=0), x)
        for step in self._recipe.steps:
            args = [known.get(x, x) for x in step.args]
            known[step] = recipes.computed(step, args, at.shape)
        results = jax.tree.leaves(self._recipe.results)
        return [
            jnp.broadcast_to(known[x] if x in known else x, at.shape) for x in results
        ]


def _typed(x: Array, given: Given) -> Array:
    """Returns what was loaded, of the type that it has."""
    return x != 0 if given.dtype == bool else x


def _offsets(at: Array, shape: tuple[int, ...], whole: tuple[int, ...]) -> Array:
    """Returns where a flat array of a shape has what belongs to places in a tensor.

    Args:
      at: places.
      shape: of the array, with size 1 along axes of the tensor where it does not vary.
      whole: that of the tensor.
    """
    axes: list[list[Any]] = []  # sizes, and whether the array varies; neighbours merged
    for n, size in zip(whole, shape, strict=True):
        if n > 1 and axes and axes[-1][1] == (size > 1):
            axes[-1][0] *= n
        elif n > 1:
            axes.append([n, size > 1])
    found, stride = jnp.zeros_like(at), 1
    for i, (n, varies) in reversed(list(enumerate(axes))):
        here = at if i == 0 else jax.lax.rem(at, jnp.full_like(at, n))
        at = at if i == 0 else jax.lax.div(at, jnp.full_like(at, n))
        if varies:
            found, stride = found + stride * here, stride * n
    return found
