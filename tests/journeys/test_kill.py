"""Killed at any moment and started again with the same command: the same bits."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from places import ROOT
from saved import bits

from meta_train import checkpoint, logging

TIMEOUT = 600  # seconds any one run may take


# Compiling costs five times as much with the optimizations of LLVM, which users have.
FAST, USERS = os.environ["XLA_FLAGS"], ""
TINY = "tests/helpers/tiny.py"
RUNS = [
    (TINY, FAST),
    pytest.param((f"{TINY}:pes,validated", USERS), marks=pytest.mark.slow),
    pytest.param((f"{TINY}:bootstrapped", USERS), marks=pytest.mark.slow),
]


class Place(NamedTuple):
    """A directory of runs, their config, and flags of XLA."""

    path: Path
    config: str
    flags: str

    def __truediv__(self, name):
        return self.path / name


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: run[0])
def place(request, tmp_path_factory):
    """Returns a place in which one uninterrupted run, `whole`, has ended."""
    place = Place(tmp_path_factory.mktemp("kill"), *request.param)
    assert finish(place, "whole") == 0
    return place


def start(place, name, *, cache="cache"):
    """Starts the one command there is, which begins or resumes the run `name`."""
    command = [sys.executable, "-m", "meta_train", f"--config={place.config}"]
    command += [f"--workdir=~/{name}", f"--compilation_cache=~/{cache}"]
    flags = {
        "HOME": str(place.path),
        "XLA_FLAGS": place.flags,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    with (place / f"{name}.log").open("a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | flags, stdout=log, stderr=log
        )


def finish(place, name):
    return start(place, name).wait(TIMEOUT)


def test_what_is_compiled_is_said_and_about_how_long_it_takes(place):
    said = (place / "whole.log").read_text()
    assert re.search(r"^compiling meta-steps: 1 program, about \d+ s$", said, re.M)
    assert "Very slow compile" not in said


def until(process, condition):
    """Waits for the condition, while the process runs."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, "it ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill(process, condition):
    """Sends SIGKILL the moment the condition holds."""
    until(process, condition)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def recorded(workdir):
    """Returns the last meta-step in the metrics, 0 before the first."""
    path = workdir / "metrics.jsonl"
    rows = logging.read(path) if path.exists() else []
    return rows[-1]["step"] if rows else 0


def half_saved(workdir):
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def final_bits(workdir):
    """Returns every array of the last checkpoint and the weights of the artifact."""
    keeper = checkpoint.manager(workdir / "checkpoints", keep=3)
    assert keeper.latest_step() == 60
    assert checkpoint.damage(Path(keeper.directory) / "60") is None
    theta = workdir / "artifact" / "theta.safetensors"
    return bits(workdir, 60), theta.read_bytes()


def test_run_killed_at_three_meta_steps_ends_with_the_same_bits(place):
    cut, steps = place / "cut", []

    kill(start(place, "cut"), lambda: recorded(cut) >= 13)
    steps.append(recorded(cut))

    begun = set(half_saved(cut))
    process = start(place, "cut")
    until(process, lambda: recorded(cut) > steps[0])
    kill(process, lambda: set(half_saved(cut)) - begun)
    assert half_saved(cut), "the save ended before the kill"
    steps.append(recorded(cut))

    process = start(place, "cut", cache="cold")
    kill(process, lambda: recorded(cut) >= steps[1] + 8)
    steps.append(recorded(cut))

    assert finish(place, "cut") == 0
    assert 0 < steps[0] < steps[1] < steps[2] < 60
    assert final_bits(cut) == final_bits(place / "whole")
    rows = logging.read(cut / "metrics.jsonl")
    assert rows == logging.read(place / "whole" / "metrics.jsonl")


def test_sigterm_and_ctrl_c_save_and_say_so_and_lose_nothing(place):
    cut = place / "terminated"

    # In the middle of tracing and compiling, before the first meta-step ends.
    process = start(place, "terminated")
    until(process, (cut / "config.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 0
    assert list((cut / "checkpoints").glob("[01]"))

    process = start(place, "terminated")
    until(process, lambda: recorded(cut) >= 13)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 130
    line = (place / "terminated.log").read_text().splitlines()[-1]
    assert line == f"Stopped by Ctrl-C at meta-step {recorded(cut)}; saved."
    assert checkpoint.damage(cut / "checkpoints" / str(recorded(cut))) is None
    rows = logging.read(cut / "metrics.jsonl")
    assert rows == logging.read(place / "whole" / "metrics.jsonl")[: len(rows)]
