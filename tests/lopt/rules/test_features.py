"""Inputs of the per-parameter MLP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rule import ARGS

from lopt import rules
from lopt.rules import features, history


def normalised(shape, clip):
    """Returns the inputs after one gradient, of which one entry is not zero."""
    ndim = len(shape)
    grad = jnp.zeros(shape).at[(0,) * ndim].set(1e-3)
    past = history.update(history.init_decays(), grad, history.init(grad), "size", ndim)
    ones = jnp.ones(shape)
    seen = features.given(ones, past, relative=True, axes="size", ndim=ndim)
    scales = features.scales(features.mean_squares(grad, seen, ndim))
    full, lines = features.full(features.parts(grad, seen)), features.lines(seen)
    pairs = [
        *zip(full, scales.full, strict=True),
        *zip(lines, scales[1:3], strict=True),
    ]
    return [np.asarray(features.normalised(*pair, clip)) for pair in pairs]


@pytest.mark.parametrize("shape", [(64, 64), (4096,)])
def test_clip_bounds_inputs_after_normalisation(shape):
    free, bounded = normalised(shape, None), normalised(shape, 8.0)
    assert max(np.abs(x).max() for x in free) > 30  # at most the root of 4096
    for x, y in zip(free, bounded, strict=True):
        np.testing.assert_allclose(y, np.clip(x, -8, 8), rtol=1e-5)


def test_clip_does_not_bound_time():
    rule = rules.build("mlp", **ARGS | dict(clip=2.0, time=("log",)))
    tx = rule.bind(rule.init(jax.random.key(0)))
    params = jnp.ones((3, 4))
    late = [tx.init(params)._replace(count=jnp.int32(10**n)) for n in (3, 5)]
    one, other = (tx.update(params, state, params)[0] for state in late)
    assert np.abs(one / other - 1).max() > 0.1


@pytest.mark.parametrize("clip", [0.0, -1.0])
def test_bound_must_be_positive(clip):
    with pytest.raises(ValueError, match="clip must be positive or None"):
        rules.build("mlp", **ARGS | dict(clip=clip))


@pytest.mark.parametrize("scale", [1e-12, 1e18])
def test_updates_ignore_scales_at_which_sums_of_squares_would_overflow(scale):
    theta = rules.build("mlp", **ARGS).init(jax.random.key(1))
    tx = rules.build("mlp", **ARGS).bind(theta, num_steps=10)
    grads = jax.random.normal(jax.random.key(0), (2_048, 4))
    update = jax.jit(lambda g: tx.update(g, tx.init(g), grads)[0])
    expected = np.asarray(update(grads))
    size = np.abs(expected).max()
    np.testing.assert_allclose(update(scale * grads), expected, atol=1e-4 * size)
