"""Names that are looked up, and what an error says of names that are not there."""

import difflib
from collections.abc import Iterable


def known(what: str, name: str, names: Iterable[str]) -> str:
    """Returns `name` if it is one of `names`.

    Raises:
      ValueError: otherwise, listing them and the nearest.

    >>> known("family", "mpl", ["quadratic", "mlp"])
    Traceback (most recent call last):
    ValueError: unknown family 'mpl'; known: mlp, quadratic. Did you mean 'mlp'?
    """
    if name in names:
        return name
    raise ValueError(
        f"unknown {what} {name!r}; known: {', '.join(sorted(names))}."
        f"{near(name, names)}"
    )


def near(name: str, names: Iterable[str]) -> str:
    """Returns a question that offers the nearest of some names; empty without any."""
    best = nearest(name, names)
    return "" if best is None else f" Did you mean {best!r}?"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name most like `name`, or None where there are no names."""
    matches = difflib.get_close_matches(str(name), list(names), 1, cutoff=0)
    return matches[0] if matches else None
