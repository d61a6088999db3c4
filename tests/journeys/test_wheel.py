"""The wheel, installed with its own dependencies alone, works without a network."""

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import tiny_rule
from packaging.requirements import Requirement
from places import ROOT

FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
PACKAGES = ("common", "lopt", "tasks", "evaluation", "meta_train", "checkpoints")
SCRIPTS = {  # and what follows them where there is nothing to do
    "lopt-meta-train": ["--config=release/mu_norm:quick", "--help"],
    "lopt-evaluate": ["--config=evaluate:quick", "--help"],
    "lopt-tasks": ["smoke-v1"],
    "lopt-export": ["--help"],
    "lopt-reproduce": ["--help"],
}
ABSENT = "flax tensorflow tensorflow_datasets orbax jaxtyping ml_collections sklearn"

# A proxy that does not answer, and sockets that do not connect.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
SCRIPT = f"""
import importlib.util, socket, sys

def refuse(*args, **kwargs):
    raise OSError("this test has no network")

socket.socket.connect = socket.getaddrinfo = refuse

import jax, jax.numpy as jnp, optax
import lopt

for name in {ABSENT.split()}:
    assert importlib.util.find_spec(name) is None, name + " was installed"
for name in lopt.released():
    lopt.verify(name)

target = jnp.linspace(-1, 1, 8)
loss = lambda p: jnp.mean(jnp.square(p["x"] - target))
params = {{"x": jnp.zeros(8)}}
tx = lopt.load("tiny", num_steps=100)
state = tx.init(params)
step = jax.jit(lambda p, s: tx.update(jax.grad(loss)(p), s, p))
before = loss(params)
for _ in range(100):
    updates, state = step(params, state)
    params = optax.apply_updates(params, updates)
assert loss(params) < 0.05 * before, (before, loss(params))
print(lopt.__file__, *lopt.released())
"""


def pip(*args):
    command = [sys.executable, "-m", "pip", *args]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy of the sources with one more artifact."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    tiny_rule.save(source / "checkpoints" / "tiny")
    pip("wheel", "--no-deps", "--no-build-isolation", f"-w{source}/dist", str(source))
    return next((source / "dist").iterdir())


def closure(name, found):
    """Adds to `found` a distribution and all that it requires without extras."""
    name = re.sub("[-_.]+", "-", name).lower()
    if name not in found:
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            wanted = Requirement(line)
            if not wanted.marker or wanted.marker.evaluate({"extra": ""}):
                closure(wanted.name, found)
    return found


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """Returns a Python that has the wheel and its dependencies, by link, alone."""
    place = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = place.glob("lib/python*/site-packages")
    needed = closure("lopt", {})
    del needed["lopt"]
    for distribution in needed.values():
        tops = {path.parts[0] for path in distribution.files} - {"..", "__pycache__"}
        for top in tops:
            (packages / top).symlink_to(distribution.locate_file(top))
    return python


def modules(*packages):
    """Returns the modules, their parents cut off, that files of packages import."""
    trees = [
        ast.parse(path.read_text())
        for package in packages
        for path in (ROOT / package).rglob("*.py")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_the_train_extra_brings_all_that_training_and_evaluation_import():
    train = [Requirement(line) for line in metadata.requires("lopt")]
    needed = closure("lopt", {})
    for wanted in train:
        if wanted.marker and wanted.marker.evaluate({"extra": "train"}):
            closure(wanted.name, needed)
    tops = metadata.packages_distributions()
    imported = modules("common", "tasks", "evaluation", "meta_train") - {"tensorboardX"}
    for name in imported - set(sys.stdlib_module_names):
        owners = {re.sub("[-_.]+", "-", x).lower() for x in tops.get(name, ["lopt"])}
        assert owners & needed.keys(), f"{name} is not in lopt[train]"


def test_wheel_carries_lopt_alone_with_every_artifact(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    version = metadata.version("lopt")
    assert {x.split("/")[0] for x in names} == {"lopt", f"lopt-{version}.dist-info"}
    sources = (ROOT / "lopt").rglob("*.py")
    assert {str(x.relative_to(ROOT)) for x in sources} | {"lopt/py.typed"} <= names
    released = {x.parent.name for x in (ROOT / "checkpoints").glob("*/card.json")}
    for name in released | {"tiny"}:
        assert f"lopt/checkpoints/{name}/card.json" in names
        assert f"lopt/checkpoints/{name}/theta.safetensors" in names


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_of_a_wheel_say_what_they_lack(clean, script):
    done = subprocess.run([clean.parent / script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "works in a checkout" in done.stderr
    assert "git clone` on the repository" in done.stderr
    assert '`pip install --editable ".[train]"`' in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_of_a_checkout_run_beside_modules_of_the_same_names(script, tmp_path):
    for name in ("tasks", "evaluation", "meta_train", "common", "configs"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    words = [Path(sys.executable).parent / script, *SCRIPTS[script]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    helped = "-m " in done.stdout or "usage: " in done.stdout
    assert helped or "quadratic" in done.stdout, done.stderr[-2000:]


def test_released_rules_load_and_train_offline_without_extras(clean, tmp_path):
    done = subprocess.run(
        [clean, "-I", "-c", SCRIPT],
        cwd=tmp_path,
        env=os.environ | OFFLINE,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-2000:]
    file, *names = done.stdout.split()
    assert Path(file).is_relative_to(clean.parent.parent)
    released = {x.parent.name for x in (ROOT / "checkpoints").glob("*/card.json")}
    assert set(names) == released | {"tiny"}
