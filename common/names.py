"""Names that are looked up, and what an error says of names that are not there."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any


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
        return table[known(what, name, table)]
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
    best = nearest(name, names)
    return "" if best is None else f" Did you mean {best!r}?"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name most like `name`, or None where there are no names."""
    matches = difflib.get_close_matches(str(name), list(names), 1, cutoff=0)
    return matches[0] if matches else None


def variants(
    text: str, names: Iterable[str], *, one_of: Iterable[str] = ()
) -> set[str]:
    """Returns the words of a config's variant, which commas join.

    Raises:
      ValueError: for a word that is not known, or several of `one_of`.

    >>> sorted(variants("quick,pes", ["quick"], one_of=["pes", "nres"]))
    ['pes', 'quick']
    """
    words, names, one_of = set(text.split(",")) - {""}, list(names), list(one_of)
    if words <= {*names, *one_of} and len(words & {*one_of}) <= 1:
        return words
    what = f"unknown variant={text!r}; join by commas `{'`, `'.join(names)}`"
    if one_of:
        what += f" and at most one of {', '.join(one_of)}"
    raise ValueError(f"{what}.{near(text, [*names, *one_of])}")
