"""Values of settings: of the types that builders ask for, and in their ranges."""

import inspect
import math
import numbers
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_origin

import numpy as np

_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    types.NoneType: "None",
}

_NUMBERS = {int: numbers.Integral, float: numbers.Real}  # those of NumPy too


def check(builder: Callable[..., Any], where: str, args: Mapping[str, Any]) -> None:
    """Raises ValueError for the first argument that is not of its annotated type.

    Numbers are finite, flags are no numbers, and neither is text. What is annotated
    with other than flags, numbers, text, None and tuples of them is not looked at.

    >>> def schedule(*, peak: float, warmup: int | None): ...
    >>> check(schedule, "config.outer", {"peak": 1, "warmup": 0.5})
    Traceback (most recent call last):
    ValueError: config.outer.warmup must be a whole number or None, got 0.5.
    """
    parameters = inspect.signature(builder).parameters
    for name, value in args.items():
        kind = parameters[name].annotation
        if not _fits(value, kind):
            raise ValueError(f"{where}.{name} must be {_words(kind)}, got {value!r}.")


def need(where: str, values: Mapping[str, Any], conditions: Mapping[str, bool]) -> None:
    """Raises ValueError for the first condition that does not hold.

    >>> need("config.outer", {"clip": 0.0}, {"clip > 0": False})
    Traceback (most recent call last):
    ValueError: config.outer needs clip > 0, got clip=0.0.

    Args:
      where: what the values are settings of.
      values: by name.
      conditions: what is needed, in words that hold the names, and whether it holds.
    """
    for words, holds in conditions.items():
        if not holds:
            names = [name for name in re.findall(r"\w+", words) if name in values]
            found = " and ".join(f"{name}={values[name]!r}" for name in names)
            raise ValueError(f"{where} needs {words}, got {found}.")


def wholes(name: str, values: Iterable[Any], *, least: int) -> tuple[int, ...]:
    """Returns whole numbers, of Python, NumPy or JAX, as those of Python.

    Raises:
      ValueError: for others, or one that is below `least`.
    """
    values = tuple(values)
    each = [np.asarray(x) for x in values]
    if any(x.ndim or x.dtype.kind not in "iu" or x < least for x in each):
        raise ValueError(f"{name} must be whole numbers from {least}, got {values}.")
    return tuple(map(int, each))


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a value is of a type, as far as we can tell."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        parts, many = get_args(kind), isinstance(value, tuple)
        if parts[-1] is Ellipsis:
            return many and all(_fits(x, parts[0]) for x in value)
        return many and len(value) == len(parts) and all(map(_fits, value, parts))
    if kind in (int, float):
        number = isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return kind not in _WORDS or isinstance(value, kind)


def _words(kind: Any) -> str:
    """Returns what a value must be, in words."""
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if Ellipsis in rest:
            return f"a tuple, each of it {_words(first)}"
        return f"({', '.join(_words(part) for part in get_args(kind))})"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
