"""Directories that one process holds, and disks that are full."""

import errno
import os
import sqlite3
import subprocess
import sys

import pytest
from places import ROOT

from common import disk

# Two processes in one directory.


def test_a_directory_is_held_by_one_process_until_it_dies(tmp_path):
    code = f"""
import sys, time, pathlib
from common import disk
with disk.held(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        busy = pytest.raises(disk.Busy, match=f"in use by process {other.pid} on")
        with busy, disk.held(tmp_path):
            pass
        other.kill()
    with disk.held(tmp_path):
        assert str(os.getpid()) in (tmp_path / disk.LOCK).read_text()
    with disk.held(tmp_path):
        pass


# A full disk.


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ValueError("RESOURCE_EXHAUSTED: [OS error 28: ENOSPC No space left on device]"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_every_kind_of_full_disk_names_the_file(error):
    with pytest.raises(disk.DiskFull, match="full: no room for runs/x"):
        with disk.writing("runs/x"):
            raise error
    with pytest.raises(disk.DiskFull, match="no room for runs/x$"):
        with disk.writing("elsewhere"), disk.writing("runs/x"):
            raise RuntimeError("while saving") from error


def test_other_errors_stay_what_they_are():
    with pytest.raises(PermissionError), disk.writing("runs/x"):
        raise PermissionError(errno.EACCES, "Permission denied")
