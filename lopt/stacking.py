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
    whose layers are apart, and so is the state, of which each layer has its own.

    >>> import lopt
    >>> params = {"layers": jnp.ones([16, 8, 8]), "readout": jnp.ones([8, 2])}
    >>> mask = {"layers": True, "readout": False}
    >>> tx = unstacked(lopt.load("mu_mlp", num_steps=200), mask)
    >>> tx.update(params, tx.init(params), params)[0]["layers"].shape
    (16, 8, 8)

    Args:
      tx: of leaves that are apart; of muP, `mup.infer` of what `split` returns.
      stacked: params -> booleans, or these: which leaves, or whole branches, have a
        first axis of layers.

    Raises:
      ValueError: from `init`, if a leaf that is stacked has no axis.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        return tx.init(split(stacked, params))

    def update(updates, state, params=None, **extra):
        whole = updates
        if params is not None:
            params = split(stacked, params)
        updates, state = tx.update(split(stacked, updates), state, params, **extra)
        joined = jax.tree.map(_join, whole, updates)
        return joined, state

    return optax.GradientTransformationExtraArgs(init, update)


def split(stacked: Mask, tree: Any) -> Any:
    """Returns a tree with, in the place of each stacked leaf, the tuple of its layers.

    Raises:
      ValueError: as `unstacked`.
    """
    mask = stacked(tree) if callable(stacked) else stacked
    return jax.tree.map(
        lambda flag, part: jax.tree.map(_layers, part) if flag else part, mask, tree
    )


def _layers(leaf: Any) -> tuple[jax.Array, ...]:
    if not jnp.ndim(leaf):
        raise ValueError(
            "a leaf that is stacked has no axis of layers: it is a scalar."
        )
    return tuple(jnp.unstack(jnp.asarray(leaf)))


def _join(leaf: Any, update: Any) -> jax.Array:
    """Returns the update of a leaf whose layers, if it is stacked, have their own."""
    if not isinstance(update, tuple):
        return update
    return jnp.stack(update) if update else jnp.zeros_like(leaf)
