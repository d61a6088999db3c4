"""The network on a tensor at once, against one entry after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lopt.rules import network
from lopt.types import Features

SIZES = Features(full=2, row=1, col=1, tensor=3)


@pytest.mark.parametrize("hidden", [5, network.UNROLLED + 1])
def test_outputs_are_those_of_the_network_on_each_entry(hidden):
    shapes = Features((2, 3, 4), (1, 3, 1), (1, 1, 4), (3, 1, 1))
    draws = np.random.default_rng(0)
    full, *rest = (jnp.asarray(draws.normal(size=x), "float32") for x in shapes)
    inputs = Features(list(full), *rest)
    theta = network.init(
        jax.random.key(0), inputs=SIZES, hidden=hidden, layers=2, outputs=2
    )
    sizes = hidden, hidden, 2
    theta |= {f"b{i}": jnp.linspace(-1, 1, n) for i, n in enumerate(sizes)}
    w0 = np.concatenate([theta["w0"][kind] for kind in SIZES._fields])
    expected = np.zeros((2, 3, 4))
    for i, j in np.ndindex(3, 4):
        row, col, same = inputs.row[:, i, 0], inputs.col[:, 0, j], inputs.tensor
        x = np.concatenate([full[:, i, j], row, col, same.ravel()])
        x = x @ w0 + theta["b0"]
        x = np.maximum(x, 0) @ theta["w1"] + theta["b1"]
        expected[:, i, j] = np.maximum(x, 0) @ theta["w2"] + theta["b2"]
    start = network.first(theta, inputs)
    for function in (network.apply, jax.jit(network.apply), network.by_products):
        found = function(theta, inputs.full, start)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_start_within_two_deviations_and_biases_at_zero():
    theta = network.init(
        jax.random.key(0), inputs=SIZES, hidden=64, layers=1, outputs=9
    )
    assert not theta["b0"].any() and not theta["b1"].any()
    assert {kind: len(x) for kind, x in theta["w0"].items()} == SIZES._asdict()
    for weights, fan_in in (
        (np.concatenate([*theta["w0"].values()]), 7),
        (theta["w1"], 64),
    ):
        bound = 2 * fan_in**-0.5
        assert 0.9 * bound < np.abs(weights).max() <= bound
