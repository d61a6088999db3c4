"""muP layers against matrix products written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.networks import layers


def readout(parametrization="mup", zero=False):
    return layers.Readout(
        features=10, base_fan_in=32, parametrization=parametrization, zero=zero
    )


def apply(layer, x, kernel, bias):
    return layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)


def draws(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]


def test_mup_readout_multiplies_the_product_and_not_the_bias():
    x, kernel, bias = draws((4, 128), (128, 10), (10,))
    expected = np.asarray(x) @ np.asarray(kernel) * (32 / 128) + np.asarray(bias)[None]
    actual = apply(readout(), x, kernel, bias)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_standard_readout_has_no_multiplier():
    x, kernel, bias = draws((4, 128), (128, 10), (10,))
    expected = np.asarray(x) @ np.asarray(kernel) + np.asarray(bias)[None]
    actual = apply(readout("standard"), x, kernel, bias)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_parametrizations_agree_at_the_base_width():
    x = jnp.ones((1, 32))
    key = jax.random.key(1)
    mup, standard = (readout(p).init_with_output(key, x) for p in ("mup", "standard"))
    jax.tree.map(np.testing.assert_array_equal, mup, standard)


@pytest.mark.parametrize(
    ("layer", "std"),
    [
        (layers.Dense(300), 512**-0.5),
        (readout(), 32**-0.5),
        (readout("standard"), 512**-0.5),
        (readout(zero=True), 0.0),
    ],
    ids=["dense", "mup readout", "standard readout", "zero readout"],
)
def test_initial_standard_deviation(layer, std):
    params = layer.init(jax.random.key(2), jnp.ones((1, 512)))["params"]
    # Of 5,120 normal numbers or more: a relative error of 1 % is one deviation.
    np.testing.assert_allclose(params["kernel"].std(), std, rtol=0.04)
    np.testing.assert_array_equal(params["bias"], 0)


def test_dense_adds_its_bias():
    x, kernel, bias = draws((4, 8), (8, 3), (3,))
    expected = np.asarray(x) @ np.asarray(kernel) + np.asarray(bias)[None]
    actual = apply(layers.Dense(3), x, kernel, bias)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_unknown_parametrization_lists_the_known():
    with pytest.raises(ValueError, match="known: mup, standard"):
        readout("ntk").init(jax.random.key(0), jnp.ones((1, 8)))


def test_layers_are_float64_under_x64():
    with jax.enable_x64():
        for layer in (layers.Dense(3), readout(), readout(zero=True)):
            x = jnp.ones((1, 8), jnp.float64)
            y, variables = layer.init_with_output(jax.random.key(0), x)
            types = {leaf.dtype for leaf in jax.tree.leaves((y, variables))}
            assert types == {jnp.dtype("float64")}


def test_layers_are_flax_modules():
    assert isinstance(readout(), nn.Module)
