"""Heads on leaves of every rank, through the rule that has them."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny_rule import ARGS

from lopt import rules

SHAPES = {"b": (5,), "w": (4, 5), "stack": (3, 4, 5), "kernel": (2, 3, 4, 5)}


def test_a_normalised_head_gives_every_matrix_of_a_leaf_the_same_size():
    rule = rules.build("mlp", **ARGS | dict(head="normalised", step_mult=0.3))
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    grads = {
        name: jax.random.normal(jax.random.key(1), shape)
        * jnp.arange(1.0, 1 + shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        for name, shape in SHAPES.items()
    }
    updates, _ = jax.jit(tx.update)(grads, tx.init(grads), grads)
    for update in updates.values():
        axes = (-1,) if update.ndim == 1 else (-2, -1)
        sizes = jnp.sqrt(jnp.mean(jnp.square(update), axis=axes))
        np.testing.assert_allclose(sizes, 0.3, rtol=1e-3)
