"""Inputs of the per-parameter MLP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rule import ARGS

from lopt import rules
from lopt.rules import features, history

TIME = jnp.linspace(-1, 15, 4)


def normalised(shape, clip):
    """Returns the inputs after one gradient, of which one entry is not zero."""
    grad = jnp.zeros(shape).at[(0,) * len(shape)].set(1e-3)
    past = history.stacked(history.init(grad))
    past = history.update(history.init_decays(), grad, past)
    inputs, scales = features.features(
        jnp.ones(shape), grad, past, time=TIME, relative=True, clip=clip
    )
    return [
        np.asarray(x * s.reshape(-1, *[1] * (x.ndim - 1)))
        for x, s in zip(inputs, scales, strict=True)
    ]


@pytest.mark.parametrize("shape", [(64, 64), (4096,)])
def test_clip_bounds_all_inputs_but_time_after_normalisation(shape):
    *free, time = normalised(shape, None)
    *bounded, same_time = normalised(shape, 8.0)
    assert max(np.abs(x).max() for x in free) > 30  # at most the root of 4096
    for x, y in zip(free, bounded, strict=True):
        np.testing.assert_allclose(y, np.clip(x, -8, 8), rtol=1e-5)
    np.testing.assert_array_equal(time, same_time)
    assert time.max() == 15


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
