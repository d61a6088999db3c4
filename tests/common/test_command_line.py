"""How command lines begin and end: paths, signals, silence."""

import os
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from places import ROOT

from common import command_line


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
    assert 'run `pip install --editable ".[train]"`' in ended.stderr


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
