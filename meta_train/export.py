"""A run -> an artifact: theta with a card that says where it comes from."""

import math
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from lopt import artifact, mup
from meta_train.loop import Progress
from meta_train.run import Run


def export(run: Run, progress: Progress, directory: Path) -> Path:
    """Writes the best averaged theta of a run as an artifact and returns its path.

    Args:
      run: from `run.build`.
      progress: where the run ended.
      directory: of the artifact; its files are replaced.
    """
    rule = run.config["rule"]
    artifact.save(
        Path(directory),
        rule=rule["name"],
        rule_args=dict(rule["args"]),
        theta=jax.device_get(progress.best),
        card=card(run, progress),
    )
    return Path(directory)


def card(run: Run, progress: Progress) -> dict[str, Any]:
    """Returns what is known of a run, as JSON values.

    Seconds are wall-clock of meta-training, summed over resumed parts; inner steps
    count every update of every worker.
    """
    config = run.config
    inner, estimator, validation = (
        config[name] for name in ("inner", "estimator", "validation")
    )
    info = mup.infer(run.family.shapes, run.family.base_shapes)
    per_meta_step = inner["window"] * estimator["num_workers"]
    return {
        "families": [config["family"] | {"full_name": run.family.name}],
        "trained_widths": list(mup.width_ratios(info)),
        "trained_horizon": list(inner["horizon"]),
        "schedule": inner["schedule"],
        "valid_weight": inner["valid_weight"],
        "estimator": estimator,
        "window": inner["window"],
        "meta_steps": progress.step,
        "inner_steps": progress.step * per_meta_step,
        "seconds": round(progress.seconds, 1),
        "hardware": hardware(),
        "code_revision": revision(),
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "selected": {
            "meta_step": progress.best_step,
            "score": _finite(progress.best_score),
            "by": validation if validation["every"] else "last average",
        },
        "config": config,
        "licence": "Apache-2.0",
    }


def _finite(score: float | None) -> float | None:
    """Returns a score, or None where each was infinite: JSON has no infinity."""
    return score if score is not None and math.isfinite(score) else None


def hardware() -> str:
    """Returns the devices that this process computes on, in words."""
    device = jax.devices()[0]
    kind = _processor() if device.platform == "cpu" else device.device_kind
    cores = f", {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return f"{jax.device_count()} x {kind}{cores}"


def revision() -> str | None:
    """Returns the Git commit of this code, marked when changed, or None.

    None also for code that a repository merely surrounds, as a virtual environment
    in it does: its commit says nothing of this code.
    """
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--match=")


def _git(*words: str) -> str | None:
    """Returns what a Git command about this directory prints, or None if it fails."""
    try:
        found = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
