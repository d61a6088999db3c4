"""The command `python -m evaluation`: what it leaves, and how it ends on mistakes."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from places import ROOT

from common import command_line, disk
from evaluation import __main__ as command
from evaluation.runs import results
from evaluation.runs.store import opened

EVALUATE = """
import runpy
c = runpy.run_path("configs/evaluate.py")["get_config"]("quick").unlock()
"""


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def evaluated(workdir, *flags, config="configs/evaluate.py:quick", **environment):
    command = [sys.executable, "-m", "evaluation", f"--workdir={workdir}"]
    command += [f"--config={config}", *flags]
    given = {"cwd": ROOT, "env": os.environ | environment, "encoding": "utf-8"}
    return subprocess.run(command, capture_output=True, **given)


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Returns the command line's main, which leaves this process as it is."""
    given = SimpleNamespace(workdir=str(tmp_path), config={})
    monkeypatch.setattr(command, "flags", SimpleNamespace(FLAGS=given))
    monkeypatch.setattr(command_line, "catch", lambda line: None)
    monkeypatch.setattr(command.jax.config, "update", lambda *_: None)
    return lambda: command.main([""])


def test_a_second_evaluation_in_a_work_directory_is_refused(main, tmp_path):
    busy = pytest.raises(SystemExit, match=f"error: {tmp_path} is in use by process ")
    with disk.held(tmp_path), busy:
        main()


def test_a_full_disk_ends_it_with_what_is_kept(main, monkeypatch, tmp_path):
    def full(*_, **__):
        with disk.writing("x"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as store:
        store.put([({"seed": 1}, {}), ({"seed": 2}, {})])
    monkeypatch.setattr(command.settings, "call", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == (
        "error: the disk is full: no room for x; 2 runs are kept in "
        f"{tmp_path}/trials.sqlite, and the same command goes on."
    )


def test_the_command_line_writes_a_report_whatever_the_locale(tmp_path):
    done = evaluated(
        tmp_path, "--config.optimizers=adam", "--config.title=A b", **ASCII
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "results.json", "curves.png", "index.html"}
    assert "4 trials ? 2 seeds a task" in done.stdout
    markdown_ = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "4 trials × 2 seeds" in markdown_ and markdown_.startswith("## A b\n")
    made = results.load(tmp_path).made["command"]
    assert made.startswith("python -m evaluation --workdir=") and "'--co" in made


@pytest.mark.parametrize(
    "flag, words_",
    [
        ("--config.optimizers=adam,admw", "'admw'"),
        ("--config.reference=sgd", "unknown reference 'sgd'"),
        ("--config.optimisers=adam", "optimisers"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, flag, words_):
    done = evaluated(tmp_path, flag)
    assert done.returncode == 1
    assert words_ in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not any(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    "edit, words_",
    [
        ("c.tuning.trails = 4", "config.tuning has no key 'trails'; did you mean 'tri"),
        ("c.seed = (1, 2)", "no key 'seed'; did you mean 'seeds'"),
        ("del c.suite", "config lacks the key 'suite'; set config.suite."),
    ],
)
def test_a_config_of_wrong_keys_is_refused(tmp_path, edit, words_):
    config = tmp_path / "config.py"
    config.write_text(f"{EVALUATE}\ndef get_config():\n  {edit}\n  return c")
    done = evaluated(tmp_path, config=config)
    assert done.returncode == 1
    assert words_ in done.stderr and "Traceback" not in done.stderr
    assert not any(tmp_path.glob("*.json"))
