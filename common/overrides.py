"""Flags that set a config file's fields, and one line for those that cannot."""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_flags import config_flags

from common.names import nearest
from common.settings import unknown_key


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
            near = nearest(str(file), map(str, file.parent.glob("*.py")))
            hint = "" if near is None else f"; did you mean {near!r}?"
            raise flags.Error(f"there is no config file {str(file)!r}{hint}")
        # Last, so that nothing there hides a package of the house.
        sys.path.append(str(file.parent.absolute()))
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
        raise ValueError(unknown_key(where, key, config))
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
