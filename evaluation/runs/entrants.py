"""Who takes part: baselines, released rules, and any Optax transformation."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import lopt
from common import command_line
from common.names import near
from evaluation.runs import adapters, stepping
from evaluation.runs.fingerprints import program
from lopt import mup
from lopt.baselines import BASELINES, Baseline
from lopt.baselines.spaces import Range
from lopt.names import find as find_outside
from lopt.names import known
from tasks.base import TaskFamily

Entrant = Baseline | optax.GradientTransformation | Callable[..., Any]

# The scale on which speed-ups of VeLO (arXiv:2211.09760) and Celo are told.
CONSTANT = "adam-constant"
CONSTANT_RATES = Baseline(
    BASELINES["adam"].build,
    {"learning_rate": Range(1e-6, 10**0.5)},  # half decades
    {"learning_rate": 1e-3},
    traced=True,
    rates=14,
)


class Contender(NamedTuple):
    """An optimizer on a family.

    Attributes:
      factory: `num_steps=..., **hyperparameters` -> Optax transformation.
      baseline: what to tune of it; None for what is taken as it is.
      traced_length: whether `num_steps` may be traced.
      eval_params: as in `curves.runner`.
      copies: as in `adapters.Adapted`.
    """

    factory: Callable[..., optax.GradientTransformationExtraArgs]
    baseline: Baseline | None
    traced_length: bool
    eval_params: adapters.EvalParams | None
    copies: bool

    @property
    def defaults(self) -> dict[str, Any]:
        """Returns the hyperparameters that it has untuned."""
        return dict(self.baseline.defaults) if self.baseline else {}


class Facts(NamedTuple):
    """What is known of an optimizer on a family before it runs.

    Attributes:
      program: hash of what it computes, weights among it.
      state_bytes: bytes of state per parameter.
    """

    program: str
    state_bytes: float


def contender(entrant: Baseline, family: TaskFamily, *, num_steps: int) -> Contender:
    """Returns how to run an optimizer on a family, for so many steps among others."""
    given = {}
    if _takes(entrant.build, "info"):
        wider = family.wider_shapes
        given["info"] = mup.infer(family.shapes, family.base_shapes, wider=wider)
    tx = entrant.build(num_steps=num_steps, **given, **entrant.defaults)
    found = adapters.adapted(tx, family.shapes)

    def built(**args: Any) -> Any:
        return found.fit(entrant.build(**given, **args))

    return Contender(
        built,
        entrant if entrant.space else None,
        traced_length=entrant.traced,
        eval_params=entrant.eval_params or found.eval_params,
        copies=found.copies and not (is_baseline(entrant) or entrant.eval_params),
    )


def split(text: str) -> list[str]:
    """Returns names that are joined by commas; directories may have commas in theirs.

    >>> split("mine=runs/demo/artifact, sgdm")
    ['mine=runs/demo/artifact', 'sgdm']
    """
    parts, found = text.split(","), []
    while parts:
        joined = (",".join(parts[:n]) for n in range(len(parts), 1, -1))
        name = next(filter(_is_place, joined), parts[0])
        found.append(name.strip())
        parts = parts[name.count(",") + 1 :]
    return found


def find(names: Sequence[str]) -> dict[str, Baseline]:
    """Returns optimizers by name: of `BASELINES`, else learned ones, untuned.

    Args:
      names: each a baseline, a released artifact, the directory of one,
        `module:attribute` of what `evaluate` takes, or `label=` and one of these. A
        directory with `=` in its name needs no label.

    Raises:
      ValueError: for what is none of these, listing those known, or no names.

    >>> list(find(["sgdm", "fast=adam"]))
    ['sgdm', 'fast']
    """
    found = {label: _named(source) for label, source in map(labelled, names)}
    if len(found) < max(1, len(names)):
        raise ValueError(f"need names of optimizers, each once, got {list(names)}.")
    return found


def labelled(name: str) -> tuple[str, str]:
    """Returns the label of an optimizer and its name, which are the same by default."""
    if _is_directory(name):
        return name, name
    label, _, source = name.partition("=")
    return label, source or label


def _is_directory(name: str) -> bool:
    return bool(name.strip()) and command_line.path(name.strip()).is_dir()


def _is_place(name: str) -> bool:
    """Returns whether this is a directory, with a label or without."""
    label, _, source = name.partition("=")
    return _is_directory(name) or ("," not in label and _is_directory(source))


def by_name(given: Any, eval_params: Any = None) -> dict[str, Baseline]:
    """Returns optimizers by name: a mapping as it is, one of its own as "yours".

    Args:
      given: as `optimizers` of `evaluate`.
      eval_params: likewise.

    Raises:
      ValueError: for what no optimizer can be built from, or `eval_params` of none.
    """
    given = given if isinstance(given, Mapping) else {"yours": given}
    if not isinstance(eval_params, Mapping):
        eval_params = dict.fromkeys(given, eval_params) if eval_params else {}
    for name in eval_params:
        known("optimizer of eval_params", name, given)
    found = {name: _baseline(name, entrant) for name, entrant in given.items()}
    return {
        name: contender._replace(
            eval_params=eval_params.get(name, contender.eval_params)
        )
        for name, contender in found.items()
    }


def is_baseline(entrant: Baseline) -> bool:
    """Returns whether an optimizer is one of `BASELINES`, whatever it is called."""
    return any(entrant.build is baseline.build for baseline in BASELINES.values())


def facts(contender: Contender, family: TaskFamily, *, num_steps: int) -> Facts:
    """Returns what an optimizer is; traces, but compiles nothing.

    Raises:
      ValueError: if its updates are not of the parameters' shapes, naming a leaf.
    """
    # Built once with the length as it is: what checks that may warn of it.
    tx = contender.factory(num_steps=num_steps, **contender.defaults)
    shapes = family.shapes
    updates = jax.eval_shape(lambda g: _used(tx, g)[0], shapes)
    _check_shapes(updates, shapes)

    def computed(length: Any, hyperparameters: Any, grads: Any) -> Any:
        length = length if contender.traced_length else num_steps
        tx = contender.factory(num_steps=length, **hyperparameters)
        updates, state = _used(tx, grads)
        shown = contender.eval_params or (lambda state, params: params)
        return updates, state, shown(state, grads)

    numbers = {
        name: 0 if isinstance(x, str) else x for name, x in contender.defaults.items()
    }
    state = jax.tree.leaves(jax.eval_shape(tx.init, shapes))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in state)
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    return Facts(program(computed, num_steps, numbers, shapes), size / count)


def _named(source: str) -> Baseline:
    if source in BASELINES:
        return BASELINES[source]
    there = source and command_line.path(source).exists()
    if ":" in source and not there:
        return _baseline(source, find_outside("optimizer", source, {}))
    if source not in lopt.released() and not there:
        names = [*BASELINES, *lopt.released()]
        raise ValueError(
            f"unknown optimizer {source!r}: there is no such directory; known: "
            f"{', '.join(names)}.{near(source, names)}"
        )
    schedule = lopt.read(source).card["schedule"]

    def build(*, num_steps: Any, info: mup.Info, learning_rate: Any = None) -> Any:
        return lopt.load(
            source, num_steps=num_steps, mup=info, learning_rate=learning_rate
        )

    peak = schedule["peak"] if schedule else 1
    if peak == 1:  # it sets the size of its steps by itself
        return Baseline(build, space={}, defaults={}, traced=True)
    rates = Range(peak / 10, peak * 10)
    return Baseline(
        build,
        {"learning_rate": rates},
        {"learning_rate": peak},
        learned=True,
        traced=True,
    )


def _baseline(name: str, entrant: Any) -> Baseline:
    """Returns what was given as a baseline; one that is not tuned has no space."""
    if isinstance(entrant, str):
        return _named(entrant)
    if isinstance(entrant, Baseline):
        return entrant
    if isinstance(entrant, optax.GradientTransformation):
        return Baseline(lambda **_: entrant, {}, {})
    if not _takes_length(entrant):
        raise ValueError(
            f"optimizer {name!r} must be an Optax transformation, a name, or a "
            f"function of the keyword num_steps that returns one; got {entrant!r}."
        )
    return Baseline(lambda *, num_steps, **_: entrant(num_steps=num_steps), {}, {})


def _takes_length(entrant: Any) -> bool:
    """Returns whether this can be called as `entrant(num_steps=...)`."""
    try:
        inspect.signature(entrant).bind(num_steps=1)
    except (TypeError, ValueError):
        return False
    return True


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Returns whether a function takes a keyword."""
    parameters = inspect.signature(function).parameters
    kinds = {p.kind for p in parameters.values()}
    return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def _used(tx: Any, grads: Any) -> tuple[Any, Any]:
    """Returns the first update, and the state after it."""
    value = jnp.float32(1.0)  # as losses are, for what asks for their type
    extra = stepping.offered(value, grads, lambda params: value)
    return tx.update(grads, tx.init(grads), grads, **extra)


def _check_shapes(updates: Any, shapes: Any) -> None:
    if jax.tree.structure(updates) != jax.tree.structure(shapes):
        raise ValueError("its updates are another tree than the parameters.")
    for (path, update), leaf in zip(
        jax.tree_util.tree_leaves_with_path(updates),
        jax.tree.leaves(shapes),
        strict=True,
    ):
        if update.shape != leaf.shape:
            raise ValueError(
                f"its update of {jax.tree_util.keystr(path, simple=True)} has shape "
                f"{update.shape}, the parameter {leaf.shape}."
            )
