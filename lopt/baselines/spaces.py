"""Spaces of hyperparameters: ranges and choices, as points of the unit cube.

A space is {name: `Range`, or a tuple of choices}. Whatever searches one, a grid or
random or quasi-random points, sees numbers of [0, 1].
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lopt.names import known

# scale -> (value -> where it is on the scale, and back)
SCALES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "log": (math.log, math.exp),
    "linear": (float, float),
    "complement": (lambda x: -math.log(1 - x), lambda y: 1 - math.exp(-y)),
}


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included.

    Attributes:
      low: the least.
      high: the greatest, at least `low`.
      scale: what is uniform: "log", the logarithm; "linear", the number itself;
        "complement", the logarithm of 1 - x, for decays close to 1.
    """

    low: float
    high: float
    scale: str = "log"

    def at(self, u: float) -> float:
        """Returns the number at a share u in [0, 1] of the way from low to high.

        >>> Range(1e-3, 1e-1).at(0.0), round(Range(1e-3, 1e-1).at(0.5), 9)
        (0.001, 0.01)
        >>> [round(Range(0.9, 0.999, "complement").at(u), 9) for u in (0.5, 1.0)]
        [0.99, 0.999]

        Raises:
          ValueError: for a u outside [0, 1], or a range that cannot be.
        """
        _check(self)
        _check_share(u)
        there, back = SCALES[self.scale]
        value = back((1 - u) * there(self.low) + u * there(self.high))
        # Exact at the ends, whatever logarithms make of them.
        ends = {0.0: self.low, 1.0: self.high}
        return float(ends.get(u, min(max(value, self.low), self.high)))

    def share(self, value: float) -> float:
        """Returns where a number is between low and high, in [0, 1]: `at` undone.

        >>> Range(1e-3, 1e-1).share(1e-2)
        0.5
        """
        _check(self)
        there, _ = SCALES[self.scale]
        low, high = there(self.low), there(self.high)
        share = (there(value) - low) / (high - low) if high > low else 0.5
        return min(max(share, 0.0), 1.0)

    def grid(self, n: int) -> tuple[float, ...]:
        """Returns n numbers from low to high, evenly on the scale; of 1, the middle.

        >>> Range(0.0, 1.0, "linear").grid(3), Range(0.0, 1.0, "linear").grid(1)
        ((0.0, 0.5, 1.0), (0.5,))

        Raises:
          ValueError: for n < 1, or a range that cannot be.
        """
        if n < 1:
            raise ValueError(f"a grid needs n >= 1, got {n=}.")
        return tuple(self.at(i / (n - 1) if n > 1 else 0.5) for i in range(n))


Space = Mapping[str, Range | tuple[Any, ...]]


def point(space: Space, u: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Returns the hyperparameters at a point of the unit cube.

    Args:
      space: ranges, and tuples of choices, by name.
      u: one number in [0, 1] for each name, in order. Equal parts of [0, 1] are the
        choices of a tuple, 1 being the last.

    Raises:
      ValueError: for another number of coordinates, one outside [0, 1], a range that
        cannot be, or no choices.

    >>> point({"rate": Range(1.0, 100.0), "schedule": ("linear", "cosine")}, [0.0, 0.7])
    {'rate': 1.0, 'schedule': 'cosine'}
    """
    if len(u) != len(space):
        raise ValueError(
            f"need a coordinate for each of {', '.join(space)}; got {len(u)}."
        )
    return {
        name: _at(name, values, float(share))
        for (name, values), share in zip(space.items(), u, strict=True)
    }


def _at(name: str, values: Range | tuple[Any, ...], u: float) -> Any:
    if isinstance(values, Range):
        return values.at(u)
    _check_share(u)
    if not values:
        raise ValueError(f"{name!r} has no choices.")
    return values[min(int(u * len(values)), len(values) - 1)]


def _check_share(u: float) -> None:
    if not 0 <= u <= 1:
        raise ValueError(f"need a coordinate in [0, 1], got {u}.")


def _check(space: Range) -> None:
    """Raises ValueError for a range that cannot be."""
    low, high, scale = space
    known("scale", scale, SCALES)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"need finite low <= high, got {low=} and {high=}.")
    if scale == "log" and low <= 0:
        raise ValueError(f"a logarithmic range needs low > 0, got {low=}.")
    if scale == "complement" and high >= 1:
        raise ValueError(f"a range of complements needs high < 1, got {high=}.")
