"""Settings of a config, resolved and checked against the builders they are for."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from ml_collections import ConfigDict

from common import checks
from common.names import nearest

NOTHING: Mapping[str, Any] = {}


def resolve(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as plain dicts and JSON values, with tuples for lists.

    >>> resolve(ConfigDict({"horizon": [10, 20], "rule": {"name": "mlp"}}))
    {'horizon': (10, 20), 'rule': {'name': 'mlp'}}
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return _tuples(json.loads(json.dumps(plain)))


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with the values of some keys, whose sections dots join.

    >>> changed({"outer": {"clip": 1.0}}, {"outer.clip": 2.0, "seed": 3})
    {'outer': {'clip': 2.0}, 'seed': 3}
    """
    full = dict(config)
    for path, value in changes.items():
        key, _, rest = path.partition(".")
        full[key] = changed(full.get(key) or {}, {rest: value}) if rest else value
    return full


def complete(
    builder: Callable[..., Any], args: Any, *, given: Iterable[str] = ()
) -> Any:
    """Returns arguments of a builder with its defaults, where it has others.

    Settings that are dataclasses are completed in turn. What is not among the builder's
    arguments stays, so that `call` can name it.

    >>> def schedule(*, peak, warmup=0.1): ...
    >>> complete(schedule, {"peak": 1.0})
    {'peak': 1.0, 'warmup': 0.1}

    Args:
      builder: a function of keyword-only arguments, or a dataclass.
      args: from a config, by name; what is no mapping is returned as it is.
      given: names of arguments that come from elsewhere.
    """
    if not isinstance(args, Mapping):
        return args
    full = {}
    for name, (kind, default) in parameters(builder).items():
        if name in given or (name not in args and default is inspect.Parameter.empty):
            continue
        value = args.get(name, default)
        if dataclasses.is_dataclass(value):
            value = dataclasses.asdict(value)
        full[name] = complete(kind, value) if kind else value
    return full | {name: x for name, x in args.items() if name not in full}


def parameters(builder: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Returns {argument: (the dataclass that it is to be, or None; its default)}."""
    found = {}
    factories = {
        field.name: field.default_factory()
        for field in getattr(builder, "__dataclass_fields__", {}).values()
        if field.default_factory is not dataclasses.MISSING
    }
    for name, parameter in inspect.signature(builder).parameters.items():
        kinds = [parameter.annotation, *get_args(parameter.annotation)]
        kind = next(filter(dataclasses.is_dataclass, kinds), None)
        found[name] = kind, factories.get(name, parameter.default)
    return found


def call(builder: Callable[..., Any], where: str, args: Any, **given: Any) -> Any:
    """Returns `builder(**args, **given)`, after checking that the keys are its own.

    Where an argument is to be a dataclass, it is built of its settings in the same way.

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
    built = dict(args)
    for name, (kind, default) in parameters(builder).items():
        absent = args.get(name) is None and (default is None or name not in args)
        if kind and name not in given and not absent:
            if not isinstance(args[name], kind):
                built[name] = call(kind, f"{where}.{name}", args[name])
    return builder(**built, **given)


def named(
    find: Callable[[str], Callable[..., Any]],
    where: str,
    section: Mapping[str, Any],
    **given: Any,
) -> Any:
    """Returns what is built of a section `{"name": ..., "args": {...}}`.

    Args:
      find: name -> builder; it refuses unknown names.
      where: the section's place in the config.
      section: holds `name`, and `args` that the builder is called with.
      given: as in `call`.
    """

    def checked(*, name: str, args: Mapping[str, Any] = NOTHING) -> Any:
        return call(find(name), f"{where}.args", args, **given)

    return call(checked, where, section)


def complete_named(
    find: Callable[[str], Callable[..., Any]],
    section: Any,
    *,
    given: Iterable[str] = (),
    renamed: bool = False,
) -> Any:
    """Returns a section `{"name": ..., "args": {...}}` with its builder's defaults.

    Args:
      find: name -> builder.
      section: of a config; returned as it is where it is no such section.
      given: names of arguments that come from elsewhere.
      renamed: whether its name is new, so that arguments that only the builder of the
        old name takes are left out.
    """
    if not isinstance(section, Mapping) or "name" not in section:
        return section
    try:
        builder = find(section["name"])
    except ValueError:  # which building says better
        return {"args": {}, **section}
    args = section.get("args", {})
    if renamed and isinstance(args, Mapping):
        known = inspect.signature(builder).parameters.keys() - set(given)
        args = {name: x for name, x in args.items() if name in known}
    return {**section, "args": complete(builder, args, given=given)}


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
