"""What the documentation shows, runs."""

import doctest
import importlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from places import ROOT

PACKAGES = ("common", "lopt", "tasks", "evaluation", "meta_train")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.stem != "__main__"  # their flags would clash in one process
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert not found.failed


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(t.examples) for m in modules for t in finder.find(m)) >= 5


def python_blocks(page):
    """Returns the Python of a page, one program from its blocks in order."""
    text = (ROOT / page).read_text()
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M))


@pytest.mark.parametrize("page", ["README.md", "docs/evaluation.md"])
def test_python_of_the_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks(page), page, "exec"), {"__name__": "__main__"})


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert targets and all((ROOT / target).exists() for target in targets), targets


def python_commands(page):
    """Returns the words of each command of a page that starts Python."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.M))
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["python"]]


def test_commands_of_the_readme_and_the_demo_run(tmp_path):
    for words in python_commands("README.md") + python_commands("docs/digits.md"):
        # The same commands, shrunk to seconds, away from the checkout's own runs.
        words = [re.sub(r"(--config=\S+)", r"\1:quick", word) for word in words]
        own = ("--config.suite=", "--config.seeds=", "--config.tuning.trials=")
        words = [word for word in words if not word.startswith(own)]
        words = [re.sub(r",sgdm,.*", ",sgdm", word) for word in words]
        words = [word.replace("runs/", f"{tmp_path}/") for word in words]
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }
        ended = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | cache,
            capture_output=True,
            text=True,
        )
        assert not ended.returncode, (words, ended.stderr[-2000:])
    assert {"demo", "eval", "seed0", "seeds"} <= {x.name for x in tmp_path.iterdir()}
    report = json.loads((tmp_path / "eval" / "results.json").read_text())
    names = {"mine", "sgdm", "adam", "adam-constant"}
    assert report["standings"].keys() == names
    card = json.loads((tmp_path / "demo" / "artifact" / "card.json").read_text())
    assert card["evaluation"]["smoke-v1"]["standings"]["mine"]["failed"] == []


def test_targets_of_the_readme_are_those_of_the_makefile():
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"make ([a-z][\w-]*)", text):
        assert target in targets, target
