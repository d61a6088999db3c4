"""How command lines begin and end: paths, signals, locks, full disks, silence."""

import errno
import os
import re
import sqlite3
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from places import ROOT

from common import command_line, disk
from evaluation.runs import entrants


def python(code, **environment):
    """Returns how a process of its own ends."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
    )


def test_tilde_is_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert command_line.path("~/runs") == Path("/home/of/somebody/runs")
    assert command_line.path("runs/~") == Path("runs/~")


# Directories whose names look like other things.


def test_existing_directories_are_tried_before_labels_and_commas(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("lr=0.1", "lr=0.1,seed=1", "a,b"):
        (tmp_path / name / "artifact").mkdir(parents=True)
    text = "lr=0.1/artifact, mine=lr=0.1,seed=1/artifact,a,b/artifact,sgdm,x=adam"
    names = entrants.split(text)
    expected = ["lr=0.1/artifact", "mine=lr=0.1,seed=1/artifact", "a,b/artifact"]
    assert names == [*expected, "sgdm", "x=adam"]
    # A label has no comma, so what stands before it is apart.
    assert entrants.split("sgdm,x=a,b/artifact") == ["sgdm", "x=a,b/artifact"]
    assert entrants.labelled(names[0]) == (names[0], names[0])
    assert entrants.labelled(names[1]) == ("mine", "lr=0.1,seed=1/artifact")


def test_a_directory_below_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a,b=c").mkdir()
    assert entrants.split("~/a,b=c,sgdm") == ["~/a,b=c", "sgdm"]
    assert entrants.labelled("~/a,b=c") == ("~/a,b=c", "~/a,b=c")


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


# Silence.


def test_what_goes_on_is_said_again_when_nothing_was_for_long():
    lines = []
    with command_line.Pulse(lines.append, silence=0.08) as pulse:
        pulse.begin("compiling 3 programs")
        time.sleep(0.25)
    said = len(lines)
    time.sleep(0.1)
    assert lines[0] == "compiling 3 programs" and len(lines) == said > 1
    assert re.fullmatch(r"compiling 3 programs: \d s so far", lines[1])


def test_who_speaks_is_not_interrupted():
    lines = []
    with command_line.Pulse(lines.append, silence=0.2) as pulse:
        pulse.begin("running", aloud=False)
        for i in range(6):
            time.sleep(0.05)
            pulse.say(str(i))
    assert lines == [*"012345"]


# Before a command has begun.


def test_absent_packages_are_one_sentence(monkeypatch):
    code = """
import importlib.util, sys
find = importlib.util.find_spec
absent = lambda name, *_: None if name in ("flax", "orbax") else find(name)
importlib.util.find_spec = absent
sys.argv = sys.argv[1:] or [""]
import tasks
"""
    ended = python(code)
    assert ended.stderr.splitlines()[-1].startswith("ModuleNotFoundError: tasks, ")
    assert "need flax, orbax, which" in ended.stderr
    ended = python(code.replace('[""]', '["-m"]'))
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1
    assert 'run `pip install ".[train]"`' in ended.stderr


def test_the_packages_looked_for_are_those_of_the_extra():
    lines = map(Requirement, metadata.requires("lopt"))
    wanted = {
        re.sub("[-_.]+", "-", x.name).lower()
        for x in lines
        if x.marker and x.marker.evaluate({"extra": "train"})
    }
    owners = metadata.packages_distributions()
    found = {
        re.sub("[-_.]+", "-", owner).lower()
        for name in command_line.MODULES
        for owner in owners[name]
    }
    assert wanted - {"importlib-resources"} <= found


def test_ctrl_c_ends_a_command_with_one_line_even_while_it_is_imported():
    program = """
import os, signal, sys
sys.argv = ["-m"]
import tasks
os.kill(os.getpid(), signal.SIGINT)
"""
    ended = python(program)
    assert ended.returncode == 130 and not ended.stderr
    assert ended.stdout == "Stopped by Ctrl-C.\n"


def test_xlas_banner_of_slow_compilations_is_off_unless_it_is_asked_for():
    code = """
import sys
sys.argv = ["-m"]
import os, tasks
print(os.environ["TF_CPP_MIN_LOG_LEVEL"])
"""
    assert python(code, TF_CPP_MIN_LOG_LEVEL="0").stdout == "0\n"
    environment = {k: x for k, x in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    words = [sys.executable, "-c", code]
    ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True)
    assert ended.stdout == b"3\n"
