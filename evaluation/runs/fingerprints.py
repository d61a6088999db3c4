"""Hashes of what a function computes and of arrays, by which runs are kept."""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def program(function: Callable[..., Any], *args: Any) -> str:
    """Returns a hash of what a function computes: its operations and constants.

    So learned weights, settings and every line of code that matters are in it, and
    none that does not.

    Args:
      function: traced by JAX; of pytrees of arrays.
      args: arrays or `jax.ShapeDtypeStruct`.
    """
    closed = jax.make_jaxpr(function)(*args)
    text = closed.pretty_print(use_color=False)  # by default a terminal's has colours
    # Functions that are printed show where they lie in memory.
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for constant in _constants(closed):
        digest.update(_bytes(constant))
    return digest.hexdigest()[:16]


def arrays_hash(tree: Any) -> str:
    """Returns a hash of a pytree of arrays, with their types and shapes."""
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        digest.update(_bytes(leaf))
    return digest.hexdigest()[:16]


def _constants(program: Any) -> Iterator[Any]:
    """Yields what a program closes over, and the programs that it calls."""
    yield from getattr(program, "consts", ())
    for equation in getattr(program, "jaxpr", program).eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                if hasattr(getattr(part, "jaxpr", part), "eqns"):
                    yield from _constants(part)


def _bytes(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
        leaf = jax.random.key_data(leaf)
    leaf = np.asarray(leaf)
    return f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes()
