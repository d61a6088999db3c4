"""docs/howto/add_a_family.md says how to add a family; here it is done as it says."""

import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from places import ROOT

import meta_train.build
from evaluation.runs import curves
from lopt import mup
from lopt.baselines import BASELINES
from meta_train.loop import loop
from tasks import families

PAGE = (ROOT / "docs" / "howto" / "add_a_family.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.M)


def apply(diff, root):
    """Makes the changes of a diff, each of whose places a file must have once."""
    for file in re.split(r"^\+\+\+ ", diff, flags=re.M)[1:]:
        name, *hunks = re.split(r"\n@@\n", file)
        text = (root / name).read_text()
        for hunk in hunks:
            lines = hunk.splitlines()
            old, new = (
                "".join(f"{x[1:]}\n" for x in lines if x[0] in signs)
                for signs in (" -", " +")
            )
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (root / name).write_text(text)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Returns a copy of the repository where all was done that the page says."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    unread = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    beside = {"runs", "shared", "docs", "build"}

    def ignored(folder, names):
        own = beside if Path(folder) == ROOT else set()
        return unread(folder, names) | own

    shutil.copytree(ROOT, root, ignore=ignored)
    (root / "tasks" / "families" / "parity.py").write_text(blocks("python")[0])
    for diff in blocks("diff"):
        apply(diff, root)
    return root


def run(root, *words):
    """Runs a module of Python in a folder, where it must succeed."""
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert not ended.returncode, ended.stdout[-2000:] + ended.stderr[-2000:]


def test_the_family_of_the_page_passes_the_tests_of_every_family(copy):
    words = ["-q", "-m", "not slow", "-k", "parity"]  # an error if there are none
    run(copy, "pytest", "tests/tasks/families/test_families.py", *words)


def test_the_family_of_the_page_has_its_place(copy):
    run(copy, "pytest", "-q", "tests/test_floors.py", "-k", "place or files")


def test_the_files_that_the_page_changes_are_linted(copy):
    files = ["tasks/families/parity.py", "tests/helpers/families.py"]
    run(copy, "ruff", "check", *files)
    run(copy, "ruff", "format", "--check", *files)


@pytest.fixture
def config(monkeypatch):
    """Returns a config of the page's family, whose row is in FAMILIES for the test."""
    file, lines = blocks("python")
    module = types.ModuleType("parity")
    exec(compile(file, "parity.py", "exec"), vars(module))
    name, function = re.search(r'"(\w+)": parity\.(\w+)', PAGE).groups()
    monkeypatch.setitem(families.FAMILIES, name, getattr(module, function))
    c = tiny.get_config("validated")
    with c.unlocked():
        exec(lines, {"c": c})
    return c


def test_the_family_of_the_page_is_meta_trained_on(config, tmp_path):
    config.outer.num_steps = 20
    progress = loop(meta_train.build.build(config), tmp_path)
    assert progress.step == 20 and progress.best_score < 4


def test_the_family_of_the_page_is_trained_under_mup(config):
    args = dict(config.family.args) | {"width": 64, "base_width": 16}
    family = families.build("parity", **args)
    info = mup.infer(family.shapes, family.base_shapes)
    assert jax.tree.leaves(info.r_out) == [4.0, 4.0, 4.0]
    found = curves.curves(
        family,
        lambda *, num_steps: BASELINES["muadam"].build(
            num_steps=num_steps, learning_rate=3e-2, info=info
        ),
        num_steps=300,
        seeds=(0, 1, 2),
        valid_every=100,
    )
    assert np.all(found.train[0, :, -10:].mean(-1) < 0.2)
