"""What tells a tensor's steps to be longer or shorter, by what it must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lopt import features, history

DECAYS = np.array([0.9, 0.99, 0.999])
SHAPES = [(40, 50), (2000,), (2, 20, 50)]


def seen(grads):
    """Returns the signals after gradients [t, *p]."""
    theta, past = history.init_decays(), history.init(grads[0])
    for grad in grads:
        past = history.update(theta, grad, past)
    return features.signal(grads[-1], past, history.filled(theta, len(grads) - 1))


def shares(grads):
    """Returns what the logarithms are of."""
    return np.exp(2 * np.asarray(seen(grads)[:-1])) - 1e-4


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
def test_the_last_says_whether_there_are_two_axes(shape, expected):
    assert seen(jnp.ones((1, *shape)))[-1] == expected


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6])
def test_the_scale_of_gradients_does_not_matter(scale):
    grads = jax.random.normal(jax.random.key(0), (5, 8, 6))
    np.testing.assert_allclose(seen(scale * grads), seen(grads), atol=1e-5)


def test_without_gradients_signals_are_those_of_agreement_and_so_are_derivatives():
    zeros = jnp.zeros((2, 3, 4))
    np.testing.assert_allclose(shares(zeros), 1, rtol=1e-4)
    slope = jax.grad(lambda grads: seen(grads).sum())(zeros)
    assert not np.any(slope)
