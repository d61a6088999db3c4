"""Where something was made: code, versions and hardware."""

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "lopt")


def machine() -> dict[str, Any]:
    """Returns versions and hardware, as JSON values."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
    }


def revision() -> str | None:
    """Returns the Git commit of this code, or None.

    Code that was changed since has "-dirty-" and twelve digits of a hash behind it, of
    what `git diff HEAD` says and of Python files that Git does not know, so that two
    changes are told apart.

    None also for code that a repository merely surrounds, as a virtual environment
    in it does: its commit says nothing of this code.
    """
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit, changes = _git("rev-parse", "HEAD"), _git("diff", "HEAD", "--binary", "--")
    if commit is not None and changes is not None:
        changes += _unknown()
    if commit is None or not changes:
        return commit
    digest = hashlib.sha256(changes.encode(errors="surrogateescape")).hexdigest()
    return f"{commit}-dirty-{digest[:12]}"


def provenance() -> dict[str, Any]:
    """Returns the revision of this code and the hardware, as cards name them."""
    return {"code_revision": revision(), "hardware": hardware()}


def accelerated() -> bool:
    """Returns whether this process computes on something else than a CPU."""
    return jax.default_backend() != "cpu"


def hardware() -> str:
    """Returns the devices that this process computes on, in words."""
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    kind = processor() if on_cpu else device.device_kind
    cores = f", {os.cpu_count()} cores" if on_cpu else ""
    return f"{jax.device_count()} x {kind}{cores}"


def _unknown() -> str:
    """Returns names and contents of Python files that Git neither has nor ignores."""
    root = Path(_git("rev-parse", "--show-toplevel") or "")
    listed = _git("-C", str(root), "ls-files", "--others", "--exclude-standard", "*.py")
    files = [root / name for name in (listed or "").splitlines()]
    return "".join(f"{x}\n{x.read_bytes()!r}" for x in files if x.exists())


def _git(*words: str) -> str | None:
    """Returns what a Git command about this directory prints, or None if it fails."""
    try:
        found = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def processor() -> str:
    """Returns the model of the processor, where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    models = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    return models[0] if models else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
