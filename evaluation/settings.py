"""Settings of a config, resolved and checked against the builders they are for."""

import contextlib
import difflib
import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_flags import config_flags

from evaluation import checks


def resolve(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as plain dicts and JSON values, with tuples for lists.

    >>> resolve(ConfigDict({"horizon": [10, 20], "rule": {"name": "mlp"}}))
    {'horizon': (10, 20), 'rule': {'name': 'mlp'}}
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return _tuples(json.loads(json.dumps(plain)))


def parse(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Returns the arguments that are no flags; ends with one line on a bad flag."""
    values["config"].parser = _Parser("config")
    try:
        rest = values(argv)
    except KeyError as error:  # its text is a representation, with escapes
        sys.exit(f"error: {error.args[0]}")
    except (flags.Error, AttributeError, ValueError, OSError) as error:
        # Of what a config file raises, the message holds the whole traceback.
        text = str(error).strip()
        if "Traceback" in text:
            text = re.sub(r"^[\w.]*Error: ", "", text.splitlines()[-1])
        sys.exit(f"error: {text}")
    if "verbosity" in values and values["verbosity"].using_default_value:
        # Orbax tells some fifty lines a checkpoint; --verbosity=0 brings them back.
        values.verbosity = -1
    return rest


def variant(key: str) -> str:
    """Returns a sentence that offers the config file's variant of what a flag sets.

    Args:
      key: what the flag sets, such as "estimator.name"; its value names the variant.

    Returns:
      Nothing where no flag sets it, or the file has no such variant.
    """
    flag = flags.FLAGS["config"]
    value = flag.override_values.get(key)
    path, _, words = (flag.config_filename or "").partition(":")
    for each in dict.fromkeys((f"{words},{value}" if words else value, value)):
        with contextlib.suppress(Exception):  # what variants there are, a file knows
            if _at(flag.parser.parse(f"{path}:{each}"), key) == value:
                return f" There is a variant for it: --config={path}:{each}"
    return ""


def _at(config: Any, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)


class _Parser(config_flags.ConfigFileFlagParser):
    """Reads a config file whose fields, those that are None too, flags can set."""

    def parse(self, path: str) -> Any:
        """Returns the config, before flags have set anything of it."""
        path = os.path.expanduser(path)
        file = Path(path.split(":")[0])
        if not file.is_file():
            near = _near(str(file), map(str, file.parent.glob("*.py")))
            raise flags.Error(f"there is no config file {str(file)!r}{near}")
        config = super().parse(path)
        try:
            with config.unlocked():
                prepare(config, sys.argv)
        except ValueError as error:
            # Of others, the flag's name and its value come before the message.
            raise flags.Error(str(error)) from error
        return config


def prepare(config: ConfigDict, argv: Sequence[str]) -> None:
    """Makes fields that are None, and that flags set, take values of any type.

    Flags of what lies below such a field make it a section.

    >>> c = ConfigDict({"schedule": None, "resolution": None})
    >>> prepare(c, ["--config.resolution=4", "--config.schedule.name=linear"])
    >>> c.schedule.get_type("name"), c.get_type("resolution")
    (<class 'object'>, <class 'object'>)

    Raises:
      ValueError: for a key that is unknown, with its nearest neighbour.
    """
    found = (re.match(r"--?(?:no)?config\.([\w.]+)", x) for x in argv)
    made: set[str] = set()
    for match in filter(None, found):
        _prepare(config, match[1].split("."), "config", made)


def _prepare(config: Any, keys: list[str], where: str, made: set[str]) -> None:
    key, *rest = keys
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{where} holds no keys, so {where}.{key} cannot be set.")
    if key not in config and where not in made:
        raise ValueError(_unknown(where, key, config))
    inner = f"{where}.{key}"
    if rest and config.get(key) is None:
        made.add(inner)
        _replace(config, key, ConfigDict())
    elif key not in config or config.get_type(key) is type(None):
        _replace(config, key, FieldReference(None, field_type=object))
    if rest:
        _prepare(config[key], rest, inner, made)


def _replace(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a field, whatever the type of what is there."""
    if key in config:
        del config[key]
    config[key] = value


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
            raise ValueError(_unknown(where, name, known))
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


def _unknown(where: str, name: str, known: Iterable[str]) -> str:
    near = _near(name, known) or "; it takes none."
    return f"{where} has no key {name!r}{near}"


def _near(name: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence that offers the nearest of some names, if any."""
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0)
    return f"; did you mean {near[0]!r}?" if near else ""


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(x) for x in value)
    return value
