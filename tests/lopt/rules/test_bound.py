"""The bound of a rule's steps by those of Adam, which no theta escapes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_rule import ARGS

from lopt import rules

SHAPE, BOUND, MULT = (64, 8), 3.0, 0.01


def rule(**args):
    own = dict(bound=BOUND, step_mult=MULT, exp_mult=0.0)
    return rules.build("mlp", **ARGS | own | args)


def wild(rule):
    """Returns a theta whose steps are of any length."""
    theta = rule.init(jax.random.key(0))
    return jax.tree.map(lambda x: 1e3 * x + 1.0, theta) | {"decays": theta["decays"]}


def gradients(rows, step):
    """Returns a gradient of which the first `rows` rows are not zero."""
    noise = jax.random.normal(jax.random.key(step), SHAPE)
    return jnp.where(jnp.arange(SHAPE[0])[:, None] < rows, noise, 0)


def updates(tx, rows, steps=3):
    params = jnp.ones(SHAPE)
    state, found = tx.init(params), []
    for step in range(steps):
        update, state = tx.update(gradients(rows, step), state, params)
        found.append(update)
    return np.array(found)


def adam(rows, b1):
    return np.abs(updates(optax.scale_by_adam(b1=b1, b2=0.999, eps=0), rows))


@pytest.mark.parametrize("head", ["exp", "normalised"])
@pytest.mark.parametrize("rows", [1, 4, 16, 64])
def test_no_entry_moves_further_than_its_share_of_adam(head, rows):
    ours = rule(head=head)
    steps = np.abs(updates(ours.bind(wild(ours), num_steps=10), rows))
    longer = np.maximum(adam(rows, 0.9), adam(rows, 0.99))
    seen = longer[:, :rows]
    assert (steps[:, :rows] <= BOUND * MULT * seen * 1.0001).all()
    assert (steps[:, rows:] == 0).all()
    if head == "exp":  # of which nearly all are at the bound
        ratio = np.median(steps[:, :rows] / seen)
        np.testing.assert_allclose(ratio, BOUND * MULT, rtol=1e-5)


def test_short_steps_are_left_as_they_are():
    theta = rule().init(jax.random.key(1))
    free, held = (rule(bound=b).bind(theta, num_steps=10) for b in (None, 1e6))
    np.testing.assert_array_equal(updates(free, 64), updates(held, 64))


def test_an_entry_stops_once_its_gradient_has_long_been_zero():
    ours = rule()
    tx, params = ours.bind(wild(ours), num_steps=10), jnp.ones(SHAPE)
    _, state = tx.update(gradients(64, 0), tx.init(params), params)
    still = lambda state, _: (tx.update(jnp.zeros(SHAPE), state, params)[1], None)  # noqa: E731
    state, _ = jax.lax.scan(still, state, length=2_000)
    update, _ = tx.update(jnp.zeros(SHAPE), state, params)
    assert np.abs(update).max() < 1e-6 * BOUND * MULT


def test_meta_gradients_are_finite_where_nothing_has_a_gradient():
    ours = rule()

    def loss(theta):
        tx, params = ours.bind(theta, num_steps=10), jnp.ones(SHAPE)
        return jnp.sum(tx.update(gradients(4, 0), tx.init(params), params)[0])

    grads = jax.grad(loss)(wild(ours))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_a_bound_that_is_not_positive_is_refused(bound):
    with pytest.raises(ValueError, match="bound must be positive or None"):
        rule(bound=bound)
