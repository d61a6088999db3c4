"""What of theta is learned, and from where: a rule started elsewhere, and frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from common import settings
from common.names import known
from lopt import catalogue, rules
from lopt.types import LearnedOptimizer, Params, Theta

ROOT = Path(__file__).parent.parent.parent


def started(
    section: Mapping[str, Any],
    source: str | Path | None,
    changed: tuple[str, ...] = (),
) -> LearnedOptimizer:
    """Returns a config's rule, with the first theta of an artifact if there is one.

    Args:
      section: `{"name": ..., "args": {...}}` of the rule.
      source: directory or released name of an artifact of that rule, or None.
      changed: arguments of the rule that may differ from the artifact's, such as its
        bound; theta stays of one shape.

    Raises:
      ValueError: for a rule that cannot be built, or an artifact that is damaged or of
        a rule of another name, other arguments or another theta.
    """
    rule = settings.named(rules.find, "config.rule", section)
    if source is None:
        return rule
    theta, _, card = catalogue.read(place(source))
    theirs, ours = _flat(card["rule"]), _flat(section)
    wrong = sorted(k for k in theirs | ours if theirs.get(k) != ours.get(k))
    if set(wrong) - set(changed):
        raise ValueError(
            f"config.theta.start: {source} is of another rule; they differ in "
            f"{', '.join(wrong)}; config.theta.changed names those that may."
        )
    first = jax.eval_shape(rule.init, jax.random.key(0))
    if jax.tree.map(jnp.shape, theta) != jax.tree.map(jnp.shape, first):
        raise ValueError(f"config.theta.start: {source} has a theta of other shapes.")
    return rule._replace(init=lambda key: theta)


def place(source: str | Path) -> str | Path:
    """Returns where an artifact is that a recipe may name from the checkout's root."""
    shipped = ROOT / source
    return shipped if shipped.is_dir() else source


def _flat(section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the name and all arguments of a rule, at their defaults too."""
    whole = settings.complete_named(rules.find, settings.resolve(section))
    return whole["args"] | {"name": whole["name"]}


def frozen(
    rule: LearnedOptimizer, names: tuple[str, ...], key: jax.Array
) -> LearnedOptimizer:
    """Returns the rule of the leaves that are learned; the others stay as they begin.

    Its theta has None in their places, so that they are neither perturbed nor decayed
    nor clipped with the rest, nor seen by any estimator.

    Args:
      rule: with all leaves.
      names: of leaves or branches, such as "decays" or "network/w0".
      key: that `init` will be called with.

    Raises:
      ValueError: for a name of none, with those there are, or if none is learned.
    """
    if not names:
        return rule
    whole = rule.init(key)
    paths = {path: _name(path) for path, _ in jax.tree.leaves_with_path(whole)}
    for name in names:
        if not any(_within(path, name) for path in paths.values()):
            known("leaf of config.theta.frozen:", name, paths.values())
    if all(any(_within(path, name) for name in names) for path in paths.values()):
        raise ValueError("config.theta.frozen: no leaf is left to be learned.")

    def learned(theta: Theta) -> Theta:
        return jax.tree.map_with_path(
            lambda path, x: None if any(_within(_name(path), n) for n in names) else x,
            theta,
        )

    def bind(theta: Theta, **kwargs: Any):
        return rule.bind(joined(theta, whole), **kwargs)

    def penalty(theta: Theta, params: Params) -> Any:
        return rule.penalty(joined(theta, whole), params)

    def adam(theta: Theta, state: Any, learning_rate: Any) -> Params:
        return rule.adam(joined(theta, whole), state, learning_rate)

    return LearnedOptimizer(
        init=lambda key: learned(rule.init(key)),
        bind=bind,
        penalty=rule.penalty and penalty,
        adam=rule.adam and adam,
    )


def joined(theta: Theta, whole: Theta) -> Theta:
    """Returns theta, with leaves of `whole` where it has None."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, theta, whole, is_leaf=lambda x: x is None
    )


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")
