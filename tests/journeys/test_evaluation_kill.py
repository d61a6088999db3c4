"""Killed again and again, an evaluation ends as if nothing had happened."""

import contextlib
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from places import ROOT

from evaluation.runs import results

TIMEOUT = 600  # seconds that any one run may take


def start(directory, cache, optimizers, out):
    """Returns an evaluation that has begun, and shows what it says in a file."""
    words = [sys.executable, "-m", "evaluation", "--config=configs/evaluate.py:quick"]
    words.append(f"--config.optimizers={optimizers}")
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return subprocess.Popen(
        [*words, f"--workdir={directory}"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=out,
        stderr=out,
    )


def drain(terminal, log):
    """Writes what a terminal shows to a file, until nobody holds the other end."""
    with open(log, "a") as file, contextlib.suppress(OSError):
        while chunk := os.read(terminal, 4096):
            file.write(chunk.decode(errors="replace").replace("\r\n", "\n"))
    os.close(terminal)


def kept(directory):
    """Returns how many runs the directory keeps."""
    path = directory / "trials.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=60) as database:
        try:
            return database.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0


def kill(directory, cache, optimizers, number):
    """Ends a run soon after it has kept something new; returns whether it lived.

    It is in a terminal, where JAX prints in colours and Python by lines.
    """
    before = kept(directory)
    ours, theirs = pty.openpty()
    process = start(directory, cache, optimizers, theirs)
    os.close(theirs)
    reader = threading.Thread(target=drain, args=(ours, f"{directory}.log"))
    reader.start()
    ends = time.monotonic() + TIMEOUT
    while process.poll() is None and kept(directory) == before:
        assert time.monotonic() < ends
        time.sleep(0.02)
    time.sleep(0.1 * (before % 7))
    process.send_signal(number)
    ended = process.wait()
    reader.join()
    return ended == ENDS[number]


def finish(directory, cache, optimizers):
    log = Path(f"{directory}.log")
    with log.open("a") as out:
        process = start(directory, cache, optimizers, out)
    assert process.wait(TIMEOUT) == 0, log.read_text()
    found = results.load(directory)
    # Times are measured, and so never the same.
    return found.settings, [x._replace(cost=None) for x in found.cells], found.notes


# Exit codes; after Ctrl-C its line is the last.
ENDS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}
FEW, MANY = "adam", "sgdm,adam,nesterov,adamw,nadamw,lion,lamb"


@pytest.mark.parametrize(
    ("kills", "names"), [(2, FEW), pytest.param(10, MANY, marks=pytest.mark.slow)]
)
def test_a_killed_evaluation_ends_with_the_same_bits(tmp_path, kills, names):
    cache = tmp_path / "cache"
    whole = finish(tmp_path / "whole", cache, names)
    lived = [
        kill(tmp_path / "killed", cache, names, [*ENDS][i % 2]) for i in range(kills)
    ]
    line = (tmp_path / "killed.log").read_text().splitlines()[-1]
    assert line.startswith(f"Stopped by Ctrl-C; {kept(tmp_path / 'killed')} runs are")
    assert all(lived) and kept(tmp_path / "killed") < kept(tmp_path / "whole")
    again = finish(tmp_path / "killed", cache, names)
    assert jax.tree.structure(again) == jax.tree.structure(whole)
    for a, b in zip(*map(jax.tree.leaves, (again, whole)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")
