"""A function that works entry by entry, as operations on one number at a time.

Kernels of GPUs know blocks of entries, but no arrays of three momenta or of sixteen
inputs. Here a function is traced at one entry, and each array of that trace becomes
several `Number`s. So kernels need no second statement of what they compute.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from lopt.types import Array

MOST = 4096  # operations, beyond which products of matrices are better


class Unwritten(Exception):
    """A function has more operations than `MOST`, or others than are known here."""


@dataclasses.dataclass(frozen=True, eq=False)
class Number:
    """A number that each entry has.

    Attributes:
      shape: of the tensor, with size 1 along axes where the number does not vary.
      dtype: of it.
    """

    shape: tuple[int, ...]
    dtype: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Given(Number):
    """A number of an operand, the `index`-th of those that lie there one by one."""

    operand: int
    index: int


# Shown, it would show all that it is made of, again and again.
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Made(Number):
    """A number that an operation makes of others, and of constants."""

    operation: Callable[..., Array]
    args: tuple[Any, ...]


def results(
    function: Callable[..., Any], whole: Any, tiled: Any, over: Array
) -> tuple[list[Array], Any, Any]:
    """Returns operands, and what `function(whole, tiled, over)` makes of them.

    That is a tree of numbers and constants, and then a tree of their dtypes. Arguments
    are those of `tiles.mapped`.

    Raises:
      Unwritten: if the function cannot be written so.
    """
    ndim, (small, large) = over.ndim, map(jax.tree.leaves, (whole, (tiled, over)))
    types = jax.tree.map(functools.partial(_point, ndim=ndim), (tiled, over))
    trace = jax.make_jaxpr(function, return_shape=True)
    closed, made = trace(jax.tree.map(_point, whole), *types)
    operands = [*closed.consts, *small, *large]
    axes = [0] * (len(operands) - len(large)) + [ndim] * len(large)
    numbers = [
        _given(i, x, n, ndim)
        for i, (x, n) in enumerate(zip(operands, axes, strict=True))
    ]
    count = len(closed.consts)
    found = _Trace(ndim).results(closed.jaxpr, numbers[:count], numbers[count:])
    tree: Any = jax.tree.structure(made)
    dtypes = jax.tree.map(lambda x: x.dtype, made)
    return operands, tree.unflatten([x.item() for x in found]), dtypes


def _point(x: Array, ndim: int = 0) -> jax.ShapeDtypeStruct:
    """Returns the type of an array at one entry, where its last axes have size 1."""
    shape = x.shape[: x.ndim - ndim] + (1,) * ndim
    return jax.ShapeDtypeStruct(shape, x.dtype, weak_type=jax.typeof(x).weak_type)


def _given(operand: int, x: Array, axes: int, ndim: int) -> np.ndarray:
    """Returns the numbers of an operand, whose last axes are those of a tensor."""
    lead, last = x.shape[: x.ndim - axes], x.shape[x.ndim - axes :]
    shape = last or (1,) * ndim
    numbers = [Given(shape, x.dtype, operand, i) for i in range(math.prod(lead))]
    return _array(numbers, lead + (1,) * axes)


def _array(values: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array of objects."""
    found = np.empty(len(values), object)
    for i, x in enumerate(values):
        found[i] = x
    return found.reshape(shape)


def _spread(x: np.ndarray, params: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns what `broadcast_in_dim` makes of an array."""
    places = dict(zip(params["broadcast_dimensions"], x.shape, strict=True))
    ones = [places.get(i, 1) for i in range(len(shape))]
    return np.broadcast_to(x.reshape(ones), shape)


def _part(x: np.ndarray, params: Any) -> np.ndarray:
    """Returns what `slice` makes of an array."""
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or [1] * x.ndim
    return x[tuple(map(slice, starts, ends, steps))]


# Equations that only move numbers: (arrays, params, shape) -> arrays.
MOVES: dict[str, Callable[[list[Any], Any, tuple[int, ...]], list]] = {
    "broadcast_in_dim": lambda x, params, shape: [_spread(x[0], params, shape)],
    "concatenate": lambda x, params, shape: [np.concatenate(x, params["dimension"])],
    "copy": lambda x, params, shape: x,
    "reshape": lambda x, params, shape: [x[0].reshape(shape)],
    "slice": lambda x, params, shape: [_part(x[0], params)],
    "squeeze": lambda x, params, shape: [x[0].reshape(shape)],
    "stack": lambda x, params, shape: [np.stack(x, params["axis"])],
    "transpose": lambda x, params, shape: [x[0].transpose(params["permutation"])],
    "unstack": lambda x, params, shape: [
        part.reshape(shape) for part in np.moveaxis(x[0], params["axis"], 0)[:, None]
    ],
}
# Equations that are other programs.
CALLS = ("jit", "closed_call", "custom_jvp_call", "remat2")
# Equations that make a number of numbers, in kernels too.
NUMBERS = set(
    "abs add and convert_element_type cos div eq exp expm1 ge gt integer_pow le log "
    "log1p lt max min mul ne neg not or pow rsqrt select_n sign sin sqrt square sub "
    "tanh".split()
)


class _Trace:
    """Follows a program at one entry, with numbers in place of its arrays."""

    def __init__(self, ndim: int):
        self._ones = (1,) * ndim
        self._count = 0

    def results(self, jaxpr: Any, consts: list, inputs: list) -> list[np.ndarray]:
        """Returns the arrays that a jaxpr makes."""
        known: dict[Any, np.ndarray] = {}

        def read(x: Any) -> np.ndarray:
            if isinstance(x, Literal):
                aval: Any = x.aval
                return _array([np.asarray(x.val, aval.dtype)[()]], ())
            return known[x]

        known |= zip(jaxpr.constvars, consts, strict=True)
        known |= zip(jaxpr.invars, inputs, strict=True)
        for eqn in jaxpr.eqns:
            made = self._made(eqn, [read(x) for x in eqn.invars])
            known |= zip(eqn.outvars, made, strict=True)
        return [read(x) for x in jaxpr.outvars]

    def _made(self, eqn: Any, args: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the arrays that an equation makes."""
        name, params, aval = eqn.primitive.name, eqn.params, eqn.outvars[0].aval
        if name in CALLS:
            inner = params.get("jaxpr") or params["call_jaxpr"]
            if getattr(inner, "consts", None):
                raise Unwritten("constants of a function inside")
            return self.results(getattr(inner, "jaxpr", inner), [], args)
        if name in MOVES:
            return MOVES[name](args, params, aval.shape)
        if name == "dot_general":
            return [self._product(eqn, *args)]
        if name not in NUMBERS:
            raise Unwritten(name)
        operation = functools.partial(eqn.primitive.bind, **params)
        wide = [np.broadcast_to(x, aval.shape).ravel() for x in args]
        made = [self._new(operation, aval.dtype, *x) for x in zip(*wide, strict=True)]
        return [_array(made, aval.shape)]

    def _new(self, operation: Callable[..., Array], dtype: Any, *args: Any) -> Made:
        """Returns what an operation makes of numbers."""
        self._count += 1
        if self._count > MOST:
            raise Unwritten(f"more than {MOST} operations")
        shapes = [x.shape for x in args if isinstance(x, Number)]
        shape = np.broadcast_shapes(self._ones, *shapes)
        return Made(shape, dtype, operation, args)

    def _product(self, eqn: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns what `dot_general` does, of arrays that share no other axis."""
        (over_a, over_b), batch = eqn.params["dimension_numbers"]
        aval = eqn.outvars[0].aval
        if any(batch) or {x.aval.dtype for x in eqn.invars} != {aval.dtype}:
            raise Unwritten("dot_general")
        size = math.prod(a.shape[i] for i in over_a)
        a = np.moveaxis(a, over_a, range(len(over_a))).reshape(size, -1)
        b = np.moveaxis(b, over_b, range(len(over_b))).reshape(size, -1)
        sums = [self._sum_of_products(aval.dtype, x, y) for x in a.T for y in b.T]
        return _array(sums, aval.shape)

    def _sum_of_products(self, dtype: Any, a: np.ndarray, b: np.ndarray) -> Made:
        """Returns a sum, in which what rows have is added up before entries are."""
        sums: dict[tuple[int, ...], Made] = {}
        for pair in zip(a, b, strict=True):
            x = self._new(jax.lax.mul, dtype, *pair)
            if x.shape in sums:
                x = self._new(jax.lax.add, dtype, sums[x.shape], x)
            sums[x.shape] = x
        first, *rest = sorted(sums.values(), key=lambda x: math.prod(x.shape))
        for x in rest:
            first = self._new(jax.lax.add, dtype, first, x)
        return first
