"""The whole run saved and restored, exactly; the only file that knows Orbax.

A step is whole when its directory holds `SHA256SUMS`, written last, and every
file it lists has the hash it lists: `sha256sum -c SHA256SUMS` agrees.
"""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from common import disk
from meta_train import hosts

SUMS = "SHA256SUMS"
SPARE = 2**20  # bytes that a disk must have beyond the arrays of a checkpoint


class Restored(NamedTuple):
    """A run as it was saved: its arrays, and what is not an array."""

    step: int
    state: Any
    notes: dict[str, Any]


def manager(directory: Path, *, keep: int) -> ocp.CheckpointManager:
    """Returns the keeper of the newest `keep` saved steps under `directory`.

    Saving is synchronous: it takes tens of milliseconds for states of this size,
    and a run that ends right after a save has nothing left to wait for.

    Args:
      directory: made if absent; remains of killed saves in it are removed.
      keep: at least 2, for an older step is deleted before the new one is sealed.
    """
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)


def save(
    keeper: ocp.CheckpointManager, step: int, *, state: Any, notes: dict[str, Any]
) -> None:
    """Saves a pytree of arrays and JSON notes as `step`, then seals them.

    A step that is already there is left as it is: the same step of the same run
    holds the same numbers.

    Raises:
      DiskFull: if there is no room for it.
    """
    if step in keeper.all_steps():
        return
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes)
    )
    directory = Path(keeper.directory) / str(step)
    with disk.writing(directory), _silenced():
        _need(directory, sum(x.nbytes for x in jax.tree.leaves(state)))
        keeper.save(step, args=items, force=True)
        keeper.wait_until_finished()
        if hosts.first():
            _seal(directory)


def _need(directory: Path, size: int) -> None:
    """Raises OSError where a disk has no room for `size` bytes and what Orbax adds.

    Out of room halfway, TensorStore's threads print tracebacks of their own.
    """
    if shutil.disk_usage(directory.parent).free < size + size // 8 + SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keeps Orbax from printing the tracebacks of what it raises as well."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def restore(keeper: ocp.CheckpointManager, template: Any) -> Restored | None:
    """Returns the newest whole step in the form of `template`, or None.

    Damaged steps newer than it are renamed to `<step>.damaged`, each with a
    warning naming the file and the check it failed.

    Args:
      keeper: from `manager`.
      template: a pytree of arrays with the structure, shapes, types and
        shardings of the saved one; its values are not read.
    """
    if hosts.first():
        _put_damaged_aside(keeper)
    hosts.wait()
    keeper.reload()
    step = keeper.latest_step()
    hosts.check_same(checkpoint=step)
    return None if step is None else _read(keeper, step, template)


def newest(keeper: ocp.CheckpointManager) -> Path | None:
    """Returns the directory of the newest whole step, or None."""
    steps = sorted(keeper.all_steps(), reverse=True)
    places = (Path(keeper.directory) / str(step) for step in steps)
    return next((place for place in places if damage(place) is None), None)


def damage(directory: Path) -> str | None:
    """Returns the first file of a saved step that fails a check, or None.

    The checks, in order: `SHA256SUMS` is there and well formed, every file it
    lists is there with its hash, and no file is unlisted.
    """
    sums = directory / SUMS
    if not sums.is_file():
        return f"{sums}: missing, so the save never ended"
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
    recorded = {name: digest for digest, _, name in (x.partition("  ") for x in lines)}
    for name, digest in recorded.items():
        if not name or not (directory / name).is_file():
            return f"{directory / name}: missing, though listed in {SUMS}"
        if _sha256(directory / name) != digest:
            return f"{directory / name}: its SHA-256 is not the one in {SUMS}"
    unlisted = sorted(set(_files(directory)) - set(recorded))
    return f"{directory / unlisted[0]}: not listed in {SUMS}" if unlisted else None


def _read(keeper: ocp.CheckpointManager, step: int, template: Any) -> Restored:
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(shapes), notes=ocp.args.JsonRestore()
    )
    found = keeper.restore(step, args=items)
    return Restored(step=step, state=found.state, notes=found.notes)


def _put_damaged_aside(keeper: ocp.CheckpointManager) -> None:
    """Renames the damaged steps that are newer than the newest whole one."""
    for step in sorted(keeper.all_steps(), reverse=True):
        directory = Path(keeper.directory) / str(step)
        fault = damage(directory)
        if fault is None:
            return
        _put_aside(directory, fault)


def _put_aside(directory: Path, fault: str) -> None:
    warnings.warn(f"Damaged checkpoint passed over. {fault}", stacklevel=4)
    aside = directory.with_name(f"{directory.name}.damaged")
    count = 1
    while aside.exists():
        count += 1
        aside = directory.with_name(f"{directory.name}.damaged-{count}")
    directory.rename(aside)


def _seal(directory: Path) -> None:
    """Writes SHA256SUMS by a rename, so that it is whole or absent."""
    lines = [f"{_sha256(directory / name)}  {name}\n" for name in _files(directory)]
    part = directory / f"{SUMS}.part"
    with part.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    part.rename(directory / SUMS)


def _files(directory: Path) -> list[str]:
    names = (p.relative_to(directory) for p in directory.rglob("*") if p.is_file())
    return sorted(str(name) for name in names if name.name != SUMS)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
