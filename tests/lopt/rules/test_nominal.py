"""A rule with a nominal term starts as Adam, and leaves it as its network learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_rule import ARGS

from lopt import rules

PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(4)}


def updates(tx, steps=5):
    """Returns updates for gradients that change sign and size."""
    state, found = tx.init(PARAMS), []
    for step in range(steps):
        grads = jax.tree.map(lambda x, s=step: jnp.cos(3 * x + s) / (1 + s), PARAMS)
        update, state = tx.update(grads, state, PARAMS)
        found.append(update)
    return found


def bound(theta_of=lambda theta: theta, **args):
    rule = rules.build("mlp", **ARGS | dict(nominal=1.0, step_mult=0.01) | args)
    return rule.bind(theta_of(rule.init(jax.random.key(0))), num_steps=10)


@pytest.mark.parametrize("args", [{}, {"layers": 2}, {"signal": True}])
def test_an_untrained_rule_is_adam(args):
    expected = updates(optax.adam(0.01, eps=0))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3)  # noqa: E731
    jax.tree.map(close, updates(bound(**args)), expected)


def test_the_weight_multiplies_adam():
    half, whole = updates(bound(nominal=0.5)), updates(bound())
    close = lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-6)  # noqa: E731
    jax.tree.map(close, half, whole)


def test_the_network_adds_to_it():
    def moved(theta):
        last = theta["network"]["b1"] + jnp.array([1.0, 0.0])  # of the direction
        return theta | {"network": theta["network"] | {"b1": last}}

    for with_one, without in zip(updates(bound(moved)), updates(bound()), strict=True):
        change = jax.tree.map(jnp.subtract, with_one, without)
        for leaf in jax.tree.leaves(change):
            np.testing.assert_allclose(leaf, -0.01, rtol=1e-4)


def test_a_normalised_head_starts_as_adam_of_one_size():
    args = dict(head="normalised", step_mult=1.0)
    for ours, adam in zip(
        updates(bound(**args)), updates(optax.adam(1.0, eps=0)), strict=True
    ):
        size = jnp.sqrt(jnp.mean(jnp.square(adam["w"])))
        np.testing.assert_allclose(ours["w"], adam["w"] / size, rtol=1e-3)
