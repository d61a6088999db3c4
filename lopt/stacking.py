"""Layers that are stacked in one leaf, as scans over layers want them, as leaves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Mask = Any | Callable[[Any], Any]


def unstacked(
    tx: optax.GradientTransformation, stacked: Mask
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` as if layers stacked along a leaf's first axis were leaves.

    Rules normalise each leaf by itself, and may count leaves to know how deep a model
    is, so a stack of 16 layers is to them one large layer of a shallow one: `mu_mlp`
    takes steps several times too long, and diverges. Updates are those of the model
    whose layers are apart. The state of layers is stacked as they are, for Optax's and
    Flax's tools expect it to mirror params.

    >>> import lopt
    >>> params = {"layers": jnp.ones([16, 8, 8]), "readout": jnp.ones([8, 2])}
    >>> mask = {"layers": True, "readout": False}
    >>> tx = unstacked(lopt.load("mu_mlp", num_steps=200), mask)
    >>> tx.update(params, tx.init(params), params)[0]["layers"].shape
    (16, 8, 8)

    Args:
      tx: a transformation for separate layers. If it applies muP, infer its widths from
        what `split` returns.
      stacked: params -> booleans, or these: which leaves, or whole branches, have a
        first axis of layers.

    Raises:
      ValueError: from `init`, if a leaf that is stacked has no axis.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        return _joined(tx.init(split(stacked, params)))

    def update(updates, state, params=None, **extra):
        layers = split(stacked, updates)
        state = _split_like(jax.eval_shape(tx.init, layers), state)
        if params is not None:
            params = split(stacked, params)
        updates, state = tx.update(layers, state, params, **extra)
        return _joined(updates), _joined(state)

    return optax.GradientTransformationExtraArgs(init, update)


class Layers(tuple):
    """The layers of a stacked leaf, in its place in the tree."""


jax.tree_util.register_pytree_with_keys(
    Layers,
    lambda x: ([(jax.tree_util.SequenceKey(i), y) for i, y in enumerate(x)], None),
    lambda _, layers: Layers(layers),
)


def split(stacked: Mask, tree: Any) -> Any:
    """Returns a tree with, in the place of each stacked leaf, its `Layers`.

    Raises:
      ValueError: as `unstacked`.
    """
    if not jax.tree.leaves(tree):  # Optax looks so for params in a state
        return tree
    mask = stacked(tree) if callable(stacked) else stacked
    return jax.tree.map(
        lambda flag, part: jax.tree.map(_layers, part) if flag else part, mask, tree
    )


def _layers(leaf: Any) -> Any:
    if not jnp.ndim(leaf):
        raise ValueError(
            "a leaf that is stacked has no axis of layers: it is a scalar."
        )
    return Layers(jnp.unstack(jnp.asarray(leaf))) if len(leaf) else leaf


def _joined(tree: Any) -> Any:
    """Returns a tree with what layers have stacked: arrays, or trees of these."""

    def join(x: Any) -> Any:
        return jax.tree.map(lambda *y: jnp.stack(y), *x) if _are_layers(x) else x

    return jax.tree.map(join, tree, is_leaf=_are_layers)


def _split_like(template: Any, tree: Any) -> Any:
    """Returns what `_joined` has made `tree` of; the template has its layers."""

    def parts(like: Any, x: Any) -> Any:
        if not _are_layers(like):
            return x
        return Layers(jax.tree.map(lambda y, i=i: y[i], x) for i in range(len(like)))

    return jax.tree.map(parts, template, tree, is_leaf=_are_layers)


def _are_layers(x: Any) -> bool:
    return isinstance(x, Layers)
