"""Resolved settings in a work directory: recorded, compared."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common import disk
from common.settings import resolve

Complete = Callable[[Any], Mapping[str, Any]]


class OtherConfig(ValueError):
    """A work directory or checkpoint belongs to a run of another config."""


def claim(
    workdir: Path, config: Mapping[str, Any], *, complete: Complete = resolve
) -> None:
    """Writes the resolved config into a work directory, or finds it there.

    Args:
      workdir: made if need be.
      config: resolved.
      complete: writes defaults into a config that was there, so that an option that
        was added since makes no other config of it.

    Raises:
      OtherConfig: when the directory holds another config, with the differing keys.
    """
    path = Path(workdir) / "config.json"
    if path.exists():
        there = complete(json.loads(path.read_text(encoding="utf-8")))
        refuse_other(there, complete(config), where=str(path))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with disk.writing(path):
        part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)


def refuse_other(
    there: Mapping[str, Any], here: Mapping[str, Any], *, where: str
) -> None:
    """Raises OtherConfig with the keys in which two configs differ, if any."""
    lines = list(_differences(resolve(there), resolve(here)))
    if lines:
        raise OtherConfig(
            f"{where} is of another config; give a new --workdir or the same config. "
            "They differ in:\n  " + "\n  ".join(lines)
        )


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for key in sorted(there.keys() | here.keys()):
        a, b = (config.get(key, "absent") for config in (there, here))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}: {a!r} there, {b!r} here"
