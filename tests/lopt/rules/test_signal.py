"""What tells a tensor's steps to be longer or shorter, by what it must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_rule

from lopt import rules
from lopt.rules import features, history

DECAYS = np.array([0.9, 0.99, 0.999])
SHAPES = [(40, 50), (2000,), (2, 20, 50)]


def seen(grads, matrices=1):
    """Returns the signals after gradients [t, *p]."""
    theta, past = history.init_decays(), history.init(grads[0])
    grad, ndim = grads[-1], grads[0].ndim
    for x in grads:
        past = history.update(theta, x, past, "size", ndim)
    filled = history.filled(theta, len(grads) - 1)
    given = features.given(grad, past, relative=True, axes="size", ndim=ndim)
    squares = features.mean_squares(grad, given, ndim)
    return features.signal(squares, given, filled, matrices, ndim).ravel()


def shares(grads):
    """Returns what the logarithms are of."""
    return np.exp(2 * np.asarray(seen(grads)[:-2])) - 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_that_agree_have_shares_of_one(shape):
    grad = jax.random.normal(jax.random.key(0), shape)
    np.testing.assert_allclose(shares(jnp.stack([grad] * 4)), 1, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_momentum_of_noise_has_the_share_that_its_decay_leaves(shape):
    grads = jax.random.normal(jax.random.key(0), (60, *shape))
    weights = (1 - DECAYS) * DECAYS ** np.arange(60)[:, None]
    expected = (weights**2).sum(0) / weights.sum(0) ** 2
    np.testing.assert_allclose(shares(grads)[:3], expected, rtol=0.1)
    np.testing.assert_allclose(shares(grads)[3:], 1, rtol=0.1)


def test_gradients_that_grow_show_in_the_shorter_averages():
    grad = jax.random.normal(jax.random.key(0), (30, 40))
    scales = 2.0 ** np.arange(8)
    found = shares(jnp.stack([s * grad for s in scales]))
    weights = DECAYS[:, None] ** np.arange(8)[::-1]
    squares = (weights * scales**2).sum(1) / weights.sum(1)
    expected = [squares[0] / squares[2], squares[1] / squares[2]]
    np.testing.assert_allclose(found[3:5], expected, rtol=1e-4)
    assert found[5] == pytest.approx(scales[-1] ** 2 / squares[0], rel=1e-4)


@pytest.mark.parametrize(("shape", "expected"), [*zip(SHAPES, (1, 0, 1), strict=True)])
def test_one_says_whether_there_are_two_axes(shape, expected):
    assert seen(jnp.ones((1, *shape)))[-2] == expected


def test_the_last_says_how_deep_a_model_is():
    grads = jnp.ones((1, 3, 2))
    found = [float(seen(grads, count)[-1]) for count in (0, 1, 20)]
    np.testing.assert_allclose(found, [-1, -1, np.log(20) - 1], rtol=1e-6)


def test_a_rule_sees_how_many_matrices_a_model_has():
    rule = rules.build("mlp", **tiny_rule.ARGS | {"signal": True})
    theta = rule.init(jax.random.key(0))
    theta["network"]["w0"]["tensor"] = theta["network"]["w0"]["tensor"].at[-1].set(3.0)
    tx, one = rule.bind(theta, num_steps=5), jnp.ones((3, 2))

    def first(params):
        updates, _ = tx.update(params, tx.init(params), params)
        return updates["w"]

    alone = first({"w": one})
    bias, more = {"b": jnp.ones(2)}, {"v": jnp.ones((2, 2))}
    np.testing.assert_array_equal(first({"w": one} | bias), alone)
    assert np.any(first({"w": one} | more) != alone)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6])
def test_the_scale_of_gradients_does_not_matter(scale):
    grads = jax.random.normal(jax.random.key(0), (5, 8, 6))
    np.testing.assert_allclose(seen(scale * grads), seen(grads), atol=1e-5)


def test_without_gradients_signals_are_those_of_agreement_and_so_are_derivatives():
    zeros = jnp.zeros((2, 3, 4))
    np.testing.assert_allclose(shares(zeros), 1, rtol=1e-4)
    slope = jax.grad(lambda grads: seen(grads).sum())(zeros)
    assert not np.any(slope)
