"""Where a run comes from: the code and the machine that it began with."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax


def provenance() -> dict[str, Any]:
    """Returns the revision of this code and the hardware, as cards name them."""
    return {"code_revision": revision(), "hardware": hardware()}


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
            encoding="utf-8",
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
