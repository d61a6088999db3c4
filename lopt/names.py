"""Names that are looked up, and what is said of those that are not there."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any


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


def find(what: str, name: str, table: Mapping[str, Any], *kinds: str) -> Any:
    """Returns what a table has under a name, or what `module:attribute` names.

    Args:
      what: a noun for the message.
      name: a key of the table, or a module that can be imported and one of its
        attributes, joined by a colon.
      table: of the house.
      *kinds: types that a function from outside must be annotated to return one of, so
        that no settings can call what was not meant to be called; none for what is no
        function.

    Raises:
      ValueError: for a name that is not known, listing those that are and the nearest;
        or for a module, attribute or annotation that is not there.

    >>> find("rule", "math:pi", {"mlp": None})
    3.141592653589793
    """
    if name in table or ":" not in str(name):
        known(what, name, table)
        return table[name]
    module, _, attribute = name.partition(":")
    try:
        there = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what} {name!r} cannot be imported: {error}.") from error
    returned = getattr(there, "__annotations__", {}).get("return")
    annotated = getattr(returned, "__name__", str(returned)).split(".")[-1]
    if kinds and annotated not in kinds:
        raise ValueError(
            f"{what} {name!r} must be a function annotated `-> {kinds[0]}`."
        )
    return there


def near(name: str, names: Iterable[str]) -> str:
    """Returns a question that offers the nearest of some names; empty without any."""
    found = difflib.get_close_matches(str(name), list(names), 1, cutoff=0)
    return f" Did you mean {found[0]!r}?" if found else ""
