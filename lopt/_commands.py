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


def _run(package: str, script: str) -> None:
    """Runs a package of the checkout, whatever modules the working directory holds."""
    if not (ROOT / package / "__main__.py").is_file():
        sys.exit(
            f"error: {script} works in a checkout of lopt, installed editable; the "
            "wheel has the optimizers alone. Clone the repository, then run `pip "
            'install --editable "lopt[train]"`.'
        )
    sys.path.insert(0, str(ROOT))
    sys.path.append(str(Path.cwd()))  # last, for modules that settings name
    # As under `python -m`: from here on Ctrl-C ends the command with one line.
    sys.argv[0] = "-m"
    runpy.run_module(package, run_name="__main__", alter_sys=True)
