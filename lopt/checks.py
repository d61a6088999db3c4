"""What numbers given by users may be, as far as they are known before tracing."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_known(x: Any) -> bool:
    """Returns whether x has a value by now: it is not None, a schedule or traced."""
    return x is not None and not callable(x) and not isinstance(x, jax.core.Tracer)


def check_rate(name: str, rate: Any) -> None:
    """Raises a ValueError for what is known, and is no learning rate."""
    if not is_known(rate):
        return
    value = number(rate)
    if not math.isfinite(value):
        raise ValueError(
            f"{name} must be a rate, such as 1e-3, or a schedule, got {rate!r}."
        )
    if value < 0:
        raise ValueError(f"updates descend already: got {name}={rate}; drop the -.")


def check_steps(num_steps: Any) -> None:
    """Raises a ValueError for what is known, and is no number of updates."""
    if not is_known(num_steps):
        return
    value = number(num_steps)
    if not math.isfinite(value) or value % 1:
        raise ValueError(
            "num_steps must be a whole number of updates, such as 200, got "
            f"{num_steps!r}."
        )
    if value < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")


def number(x: Any) -> float:
    """Returns the value of a real scalar, and NaN for flags, text and the rest."""
    x = np.asarray(x)
    real = jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)
    return float(x) if real and not x.ndim else math.nan
