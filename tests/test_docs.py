"""What the documentation shows, runs."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lopt", "tasks", "evaluation", "meta_train")
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


def python_blocks():
    """Returns the Python of README.md, one program from its blocks in order."""
    text = (ROOT / "README.md").read_text()
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M))


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks(), "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("pattern", [r"\]\(([^)#:]+)\)", r'src="([^":]+)"'])
def test_links_of_the_readme_lead_somewhere(pattern):
    for target in re.findall(pattern, (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_commands_of_the_readme_name_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"--config=([\w/]+\.py)", text):
        assert (ROOT / path).is_file(), path
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"make ([a-z][\w-]*)", text):
        assert target in targets, target
