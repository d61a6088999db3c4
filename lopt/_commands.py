"""Console scripts that run the commands of a checkout from any directory."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the checkout, where this is one


def meta_train() -> None:
    """Runs `python -m meta_train`."""
    _run("meta_train", "lopt-meta-train")


def evaluate() -> None:
    """Runs `python -m evaluation`."""
    _run("evaluation", "lopt-evaluate")


def tasks() -> None:
    """Runs `python -m tasks`."""
    _run("tasks", "lopt-tasks")


def export() -> None:
    """Runs `python -m meta_train.artifacts.export`."""
    _run("meta_train.artifacts.export", "lopt-export")


def reproduce() -> None:
    """Runs `python -m meta_train.artifacts.reproduce`."""
    _run("meta_train.artifacts.reproduce", "lopt-reproduce")


def _run(module: str, script: str) -> None:
    """Runs a module of the checkout, whatever the working directory holds."""
    if not (ROOT / "meta_train").is_dir():
        sys.exit(
            f"error: {script} works in a checkout of lopt, installed editable; the "
            "wheel has the optimizers alone. Run `git clone` on the repository, and in "
            'the checkout `pip install --editable ".[train]"`.'
        )
    sys.path.insert(0, str(ROOT))
    sys.path.append(str(Path.cwd()))  # last, for modules that settings name
    # As under `python -m`: from here on Ctrl-C ends the command with one line.
    sys.argv[0] = "-m"
    runpy.run_module(module, run_name="__main__", alter_sys=True)
