"""Heads on leaves of every rank, through the rule that has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rule import ARGS

from lopt import rules

SHAPES = [(), (5,), (4, 5), (3, 4, 5), (2, 3, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_normalised_head_gives_every_matrix_of_a_leaf_the_same_size(shape):
    rule = rules.build("mlp", **ARGS | dict(head="normalised", step_mult=0.3))
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    matrices = jnp.arange(1.0, 1 + np.prod(shape[:-2])).reshape(*shape[:-2], 1, 1)
    grads = jax.random.normal(jax.random.key(1), shape)
    grads = {"w": grads * matrices if len(shape) > 2 else grads}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    axes = tuple(range(max(0, len(shape) - 2), len(shape)))
    sizes = jnp.sqrt(jnp.mean(jnp.square(updates["w"]), axis=axes))
    np.testing.assert_allclose(sizes, 0.3, rtol=1e-3)
