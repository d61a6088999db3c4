"""Tensors of several shapes, joined in one array."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lopt.types import Array

CHUNK = 32  # entries of a row, all of one tensor


class Layout:
    """Where the entries of some tensors lie in an array of rows, [rows, `CHUNK`].

    Each tensor begins a row, and the rest of its last row is filled up.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], ndims: Sequence[int]):
        """Takes shapes, of tensors or of stacks, and how many axes one tensor has."""
        self._shapes = shapes
        pairs = list(zip(shapes, ndims, strict=True))
        stacks = [shape[: len(shape) - ndim] for shape, ndim in pairs]
        self._ones = [(*x, *[1] * n) for x, n in zip(stacks, ndims, strict=True)]
        self._counts = [math.prod(x) for x in stacks]
        self._sizes = [math.prod(x[len(x) - ndim :]) for x, ndim in pairs]
        self._rows = [-(-size // CHUNK) for size in self._sizes]

    def join(self, arrays: Sequence[Any]) -> Array:
        """Returns [*lead, rows, CHUNK] of an array [*lead, *shape] for each shape."""
        parts = []
        for i, x in enumerate(arrays):
            shape = self._shapes[i]
            lead = x.shape[: x.ndim - len(shape)]
            x = jnp.broadcast_to(x, (*lead, *shape))
            x = x.reshape(*lead, self._counts[i], self._sizes[i])
            rest = self._rows[i] * CHUNK - self._sizes[i]
            if rest:
                x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, rest)])
            parts.append(x.reshape(*lead, -1, CHUNK))
        return jnp.concatenate(parts, -2)

    def spread(self, arrays: Sequence[Array]) -> Array:
        """Returns [*lead, rows, 1] of what is [*lead, (stack), 1...] for each shape."""
        parts = []
        for i, x in enumerate(arrays):
            lead = x.shape[: x.ndim - len(self._ones[i])]
            x = x.reshape(*lead, self._counts[i], 1)
            x = jnp.broadcast_to(x, (*lead, self._counts[i], self._rows[i]))
            parts.append(x.reshape(*lead, -1, 1))
        return jnp.concatenate(parts, -2)

    def split(self, joined: Array) -> list[Array]:
        """Returns an array [*lead, *shape] for each shape, of [*lead, rows, CHUNK]."""
        found = []
        for i, x in enumerate(self._each(joined, -2)):
            x = x.reshape(*x.shape[:-2], self._counts[i], -1)[..., : self._sizes[i]]
            found.append(x.reshape(*x.shape[:-2], *self._shapes[i]))
        return found

    def means(self, joined: Sequence[Array]) -> list[Array]:
        """Returns for each shape the means [n, (stack), 1...] of n [rows, CHUNK]."""
        inside = self.join([np.ones(shape, bool) for shape in self._shapes])
        sums = jnp.stack([jnp.where(inside, x, 0).sum(-1) for x in joined])
        found = []
        for i, x in enumerate(self._each(sums, -1)):
            x = x.reshape(-1, self._counts[i], self._rows[i]).sum(-1) / self._sizes[i]
            found.append(x.reshape(-1, *self._ones[i]))
        return found

    def _each(self, joined: Array, axis: int) -> list[Array]:
        """Returns the rows of each shape, along an axis."""
        rows = np.multiply(self._counts, self._rows)
        return jnp.split(joined, np.cumsum(rows)[:-1], axis)
