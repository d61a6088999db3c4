"""Settings of the per-parameter MLP rule."""

from typing import Any, NamedTuple

import jax

from lopt.names import find
from lopt.rules import heads


class Settings(NamedTuple):
    """Settings of the rule; see `mlp.mlp`."""

    hidden: int
    layers: int
    head: str
    eps: str
    time: tuple[str, ...]
    signal: bool
    nominal: float
    clip: Any
    step_mult: float
    exp_mult: float
    bound: Any
    axes: str


def head_of(how: Settings) -> heads.Head:
    """Returns how many outputs the head takes, and what makes an update of them."""
    found = find("head", how.head, heads.HEADS)
    if not isinstance(found, tuple):
        raise ValueError(f"head {how.head!r} must be a pair like those of HEADS.")
    return heads.Head(*found)


def mults(how: Settings) -> dict[str, float]:
    """Returns what heads take by name."""
    return {"step_mult": how.step_mult, "exp_mult": how.exp_mult}


def traced(how: Settings) -> dict[str, Any]:
    """Returns the settings that are arrays, as under a derivative by them."""
    return {k: v for k, v in how._asdict().items() if isinstance(v, jax.Array)}


def static(how: Settings) -> Settings:
    """Returns settings that can be compared, with 1 in place of arrays."""
    ones: Any = dict.fromkeys(traced(how), 1.0)
    return how._replace(**ones)
