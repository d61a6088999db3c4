"""Names that are looked up, and what is said of those that are not there."""

import difflib
from collections.abc import Iterable


def known(what: str, name: str, names: Iterable[str]) -> None:
    """Raises a ValueError that lists `names` and the nearest, unless `name` is one.

    >>> known("rule", "mpl", ["mlp", "weight_decay"])
    Traceback (most recent call last):
    ValueError: unknown rule 'mpl'; known: mlp, weight_decay. Did you mean 'mlp'?
    """
    names = list(names)
    if name not in names:
        raise ValueError(
            f"unknown {what} {name!r}; known: {', '.join(names) or 'none'}."
            f"{near(name, names)}"
        )


def near(name: str, names: Iterable[str]) -> str:
    """Returns a question that offers the nearest of some names; empty without any."""
    found = difflib.get_close_matches(str(name), list(names), 1, cutoff=0)
    return f" Did you mean {found[0]!r}?" if found else ""
