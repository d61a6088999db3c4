"""Directories that one process holds, and disks that are full."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None

LOCK = ".lock"
FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")


class Busy(OSError):
    """Another process works in a directory."""


class DiskFull(OSError):
    """A disk has no room for a file; the message names it."""


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keeps other processes out of a directory until the block or this process ends.

    Raises:
      Busy: at once, if another process holds it, naming that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Busy(
                f"{directory} is in use by {file.read().strip() or 'another process'}: "
                "wait for it to end, or give another --workdir."
            ) from error
        except OSError:
            pass  # some network file systems lock nothing
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def writing(file: str | os.PathLike) -> Iterator[None]:
    """Raises DiskFull, naming the file, where the block finds no room for it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFull) or not full(error):
            raise
        raise DiskFull(f"the disk is full: no room for {file}") from error


def full(error: BaseException | None) -> bool:
    """Returns whether an error, or one behind it, is that a disk or a quota is full.

    Some libraries tell it by text alone.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or isinstance(error, DiskFull):
            return True
        if any(text in str(error) for text in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
