"""Who takes part: baselines, released rules, and any Optax transformation."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

import lopt
from evaluation import tuning
from lopt import mup
from lopt.baselines import BASELINES, Baseline
from tasks.base import TaskFamily


class Contender(NamedTuple):
    """An optimizer on a family.

    Attributes:
      factory: `num_steps=..., **hyperparameters` -> Optax transformation.
      space: values to try of each hyperparameter.
      trials: all combinations of them; empty for what is not tuned.
      traced_length: whether `num_steps` may be traced.
    """

    factory: Callable[..., Any]
    space: Mapping[str, Sequence[Any]]
    trials: list[dict[str, Any]]
    traced_length: bool


def contender(
    optimizer: Baseline | Callable[..., Any], family: TaskFamily
) -> Contender:
    """Returns how to run an optimizer on a family; see `evaluate`."""
    if not isinstance(optimizer, Baseline):
        return Contender(optimizer, {}, [], traced_length=False)
    info = mup.infer(family.shapes, family.base_shapes)

    def factory(**args: Any) -> Any:
        return optimizer.build(info=info, **args)

    trials = tuning.trials(optimizer.space) if optimizer.space else []
    return Contender(factory, optimizer.space, trials, traced_length=True)


def find(names: Sequence[str]) -> dict[str, Baseline]:
    """Returns optimizers by name: of `BASELINES`, else learned ones, untuned.

    Args:
      names: each a baseline, a released artifact, the directory of one, or
        `label=` and one of these.

    Raises:
      ValueError: for what is none of these, listing those known, or no names.

    >>> list(find(["sgdm", "fast=adam"]))
    ['sgdm', 'fast']
    """
    pairs = [name.partition("=") for name in names]
    found = {label: _entrant(source or label) for label, _, source in pairs}
    if len(found) < max(1, len(names)):
        raise ValueError(f"need names of optimizers, each once, got {list(names)}.")
    return found


def state_bytes(contender: Contender, family: TaskFamily, *, num_steps: int) -> float:
    """Returns bytes of state per parameter; builds, but compiles nothing."""
    own = contender.trials[0] if contender.trials else {}
    tx = contender.factory(num_steps=num_steps, **own)
    leaves = jax.tree.leaves(jax.eval_shape(tx.init, family.shapes))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
    return size / sum(math.prod(x.shape) for x in jax.tree.leaves(family.shapes))


def _entrant(source: str) -> Baseline:
    if source in BASELINES:
        return BASELINES[source]
    try:
        lopt.read(source)
    except ValueError as error:
        known = ", ".join(BASELINES)
        raise ValueError(f"{source!r} is no baseline ({known}): {error}") from error

    def build(*, num_steps: Any, info: mup.Info) -> Any:
        return lopt.load(source, num_steps=num_steps, mup=info)

    return Baseline(build, space={})
