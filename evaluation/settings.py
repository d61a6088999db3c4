"""Settings of a config, resolved and checked against the builders they are for."""

import difflib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict


def resolve(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as plain dicts and JSON values, with tuples for lists.

    >>> resolve(ConfigDict({"horizon": [10, 20], "rule": {"name": "mlp"}}))
    {'horizon': (10, 20), 'rule': {'name': 'mlp'}}
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return _tuples(json.loads(json.dumps(plain)))


def parse(argv: list[str]) -> list[str]:
    """Returns the arguments that are no flags; ends with one line on a bad flag."""
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, ValueError, OSError) as error:
        # Of what a config file raises, the message holds the whole traceback.
        text = str(error).strip()
        sys.exit(f"error: {text.splitlines()[-1] if 'Traceback' in text else text}")
    if flags.FLAGS["verbosity"].using_default_value:
        # Orbax tells some fifty lines a checkpoint; --verbosity=0 brings them back.
        flags.FLAGS.verbosity = -1
    return rest


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
        is missing; or for `args` that are no mapping.
    """
    if not isinstance(args, Mapping):
        raise ValueError(f"{where} must hold keys and values, got {args!r}.")
    known = {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(builder).parameters.items()
        if name not in given
    }
    for name in args:
        if name not in known:
            raise ValueError(_unknown(where, name, known))
    missing = [name for name, needed in known.items() if needed and name not in args]
    if missing:
        raise ValueError(
            f"{where} lacks the key {missing[0]!r}; set {where}.{missing[0]}."
        )
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


def _unknown(where: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0)
    hint = f"did you mean {near[0]!r}?" if near else "it takes none."
    return f"{where} has no key {name!r}; {hint}"


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(x) for x in value)
    return value
