"""Tasks that optimizers are trained and judged on."""

from typing import Any

from common import command_line as command_line  # ends commands that cannot run


def __getattr__(name: str) -> Any:
    """Returns `from_arrays`, whose imports take seconds, only where it is asked for."""
    if name == "from_arrays":
        from tasks.data.own import from_arrays

        return from_arrays
    raise AttributeError(f"module 'tasks' has no attribute {name!r}")
