"""Settings of a config, resolved and checked against the builders they are for."""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from common import checks
from common.names import nearest


def resolve(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as plain dicts and JSON values, with tuples for lists.

    >>> resolve(ConfigDict({"horizon": [10, 20], "rule": {"name": "mlp"}}))
    {'horizon': (10, 20), 'rule': {'name': 'mlp'}}
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return _tuples(json.loads(json.dumps(plain)))


def call(builder: Callable[..., Any], where: str, args: Any, **given: Any) -> Any:
    """Returns `builder(**args, **given)`, after checking that the keys are its own.

    >>> def schedule(*, peak, warmup): ...
    >>> call(schedule, "config.outer", {"peek": 1.0, "warmup": 10})
    Traceback (most recent call last):
    ValueError: config.outer has no key 'peek'; did you mean 'peak'?

    Args:
      builder: a function of keyword-only arguments.
      where: the section of the config that holds `args`, for the message.
      args: arguments from the config, by name.
      given: arguments from elsewhere, which the config must not set.

    Raises:
      ValueError: naming a key that is unknown, with the nearest known one, or that
        is missing; for `args` that are no mapping; or for a value of another type than
        the builder's annotation.
    """
    known = {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(builder).parameters.items()
        if name not in given
    }
    if not isinstance(args, Mapping):
        needed = [f"{where}.{name}" for name, needed in known.items() if needed]
        raise ValueError(
            f"{where} must hold keys and values, got {args!r}; set {', '.join(needed)}."
        )
    for name in args:
        if name not in known:
            raise ValueError(unknown_key(where, name, known))
    missing = [name for name, needed in known.items() if needed and name not in args]
    if missing:
        raise ValueError(
            f"{where} lacks the key {missing[0]!r}; set {where}.{missing[0]}."
        )
    checks.check(builder, where, args)
    return builder(**args, **given)


def named(
    table: Mapping[str, Callable[..., Any]],
    build: Callable[..., Any],
    where: str,
    section: Mapping[str, Any],
    **given: Any,
) -> Any:
    """Returns what `build` makes of a section `{"name": ..., "args": {...}}`.

    Args:
      table: builders by name, to check `args` against.
      build: `build(name, **args)`, which refuses unknown names.
      where: the section's place in the config.
      section: holds `name` and `args`.
      given: as in `call`.
    """

    def checked(*, name: str, args: Mapping[str, Any]) -> Any:
        if name not in table:
            return build(name)
        return call(table[name], f"{where}.args", args, **given)

    return call(checked, where, section)


def unknown_key(where: str, name: str, known: Iterable[str]) -> str:
    """Returns a sentence that offers the nearest key of a section."""
    near = nearest(name, known)
    hint = "; it takes none." if near is None else f"; did you mean {near!r}?"
    return f"{where} has no key {name!r}{hint}"


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(x) for x in value)
    return value
