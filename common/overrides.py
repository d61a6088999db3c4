"""Flags that set a config file's fields, and one line for those that cannot."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_flags import config_flags

from common.names import nearest
from common.settings import unknown_key

CONFIGS = Path(__file__).parent.parent / "configs"  # found by name, from anywhere
FLAG = re.compile(r"--?(?:no)?config\.([\w.]+)(?:=(.*))?", re.S)

# (config, sections whose name a flag has changed) -> the config with all defaults
Complete = Callable[[dict[str, Any], Iterable[str]], dict[str, Any]]


def parse(
    argv: list[str],
    values: flags.FlagValues = flags.FLAGS,
    *,
    complete: Complete | None = None,
) -> list[str]:
    """Returns the arguments that are no flags; ends with one line on a bad flag.

    Args:
      argv: the command line, its first word the command.
      values: flags, "config" among them.
      complete: writes defaults into a config, so that flags can set what the config
        file does not name.
    """
    values["config"].parser = _Parser("config", complete)
    try:
        rest = values(argv)
    except KeyError as error:  # its text is a representation, with escapes
        sys.exit(f"error: {error.args[0]}")
    except (flags.Error, AttributeError, ValueError, OSError) as error:
        # The message of what a config file raises holds the whole traceback.
        text = str(error).strip()
        if "Traceback" in text:
            text = re.sub(r"^[\w.]*Error: ", "", text.splitlines()[-1])
        sys.exit(f"error: {text}")
    if "verbosity" in values and values["verbosity"].using_default_value:
        # Orbax tells some fifty lines a checkpoint; --verbosity=0 brings them back.
        values.verbosity = -1
    return rest


class _Parser(config_flags.ConfigFileFlagParser):
    """Reads a config file whose fields, also those left at defaults, flags can set."""

    def __init__(self, name: str, complete: Complete | None) -> None:
        """Takes the flag's name, and what writes defaults into a config."""
        super().__init__(name)
        self._complete = complete

    def parse(self, path: str) -> Any:
        """Returns the config, before flags have set anything but names in it."""
        file, _, variant = os.path.expanduser(path).partition(":")
        found = _found(file)
        # Last, so that nothing there hides a package of the house.
        sys.path.append(str(found.parent.absolute()))
        config = super().parse(f"{found}:{variant}" if variant else str(found))
        try:
            with config.unlocked():
                renamed = list(_renamed(config, sys.argv))
                if self._complete is not None:
                    _fill(config, self._complete(config.to_dict(), renamed))
                prepare(config, sys.argv)
        except ValueError as error:
            # Other errors get the flag's name and its value before the message.
            raise flags.Error(str(error)) from error
        return config


def _found(path: str) -> Path:
    """Returns the config file at a path, or the shipped one of that name."""
    file, shipped = Path(path), CONFIGS / f"{path}.py"
    if file.is_file():
        return file
    if shipped.is_file():
        return shipped
    if file.suffix == ".py":
        names = [str(x) for x in file.parent.glob("*.py")]
    else:
        every = (x.relative_to(CONFIGS) for x in CONFIGS.rglob("*.py"))
        names = [str(x.with_suffix("")) for x in every]
    near = nearest(path, names)
    hint = "" if near is None else f"; did you mean {near!r}?"
    raise flags.Error(f"there is no config file {path!r}{hint}")


def _set_by(argv: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yields the keys of each flag that sets a field, and its text."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if match := FLAG.fullmatch(word):
            yield match[1].split("."), following if match[2] is None else match[2]


def _renamed(config: ConfigDict, argv: Sequence[str]) -> Iterator[str]:
    """Sets the names of sections that flags choose, and yields these sections."""
    for keys, value in _set_by(argv):
        section = config.get(keys[0])
        if len(keys) != 2 or keys[1] != "name" or not isinstance(section, ConfigDict):
            continue
        if section.get("name") != value:
            section.name = value
            yield keys[0]


def _fill(config: ConfigDict, full: Mapping[str, Any]) -> None:
    """Makes a config what it is with all its defaults, of any type."""
    for key in set(config) - set(full):
        del config[key]
    for key, value in full.items():
        if isinstance(value, Mapping):
            if not isinstance(config.get(key), ConfigDict):
                _replace(config, key, ConfigDict())
            _fill(config[key], value)
        elif key not in config:
            _replace(config, key, _any(value))


def prepare(config: ConfigDict, argv: Sequence[str]) -> None:
    """Makes fields that flags set take values of any type, which building checks.

    Flags of what lies below a field that is None make it a section.

    >>> c = ConfigDict({"schedule": None, "window": 20})
    >>> prepare(c, ["--config.window=(2, 9)", "--config.schedule.name=linear"])
    >>> c.schedule.get_type("name"), c.get_type("window")
    (<class 'object'>, <class 'object'>)

    Raises:
      ValueError: for a key that is unknown, with its nearest neighbour.
    """
    made: set[str] = set()
    for keys, _ in _set_by(argv):
        _prepare(config, keys, "config", made)


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
    elif not rest:  # in the place of a section too
        there = config.get(key)
        _replace(config, key, _any(None if isinstance(there, ConfigDict) else there))
    if rest:
        _prepare(config[key], rest, inner, made)


def _any(value: Any) -> Any:
    """Returns a field that takes values of any type; text and flags stay such."""
    if isinstance(value, bool | str):
        return value
    return FieldReference(value, field_type=object)


def _replace(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a field, whatever the type of what is there."""
    if key in config:
        del config[key]
    config[key] = value
