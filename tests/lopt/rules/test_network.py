"""The network on a tensor at once, against one entry after another."""

import jax
import jax.numpy as jnp
import numpy as np

from lopt.rules import network
from lopt.types import Features

SIZES = Features(full=2, row=1, col=1, tensor=3)


def test_outputs_are_those_of_the_network_on_each_entry():
    shapes = Features((2, 3, 4), (1, 3, 1), (1, 1, 4), (3,))
    draws = np.random.default_rng(0)
    inputs = Features(*(jnp.asarray(draws.normal(size=x), "float32") for x in shapes))
    scales = Features(*(jnp.asarray(draws.normal(size=n), "float32") for n in SIZES))
    theta = network.init(jax.random.key(0), inputs=SIZES, hidden=5, layers=2, outputs=2)
    theta |= {f"b{i}": jnp.linspace(-1, 1, n) for i, n in enumerate((5, 5, 2))}
    found = network.apply(theta, inputs, scales)
    w0 = np.concatenate([theta["w0"][kind] for kind in SIZES._fields])
    for i, j in np.ndindex(3, 4):
        full, row, col = inputs.full[:, i, j], inputs.row[:, i, 0], inputs.col[:, 0, j]
        x = np.concatenate([full, row, col, inputs.tensor]) * np.concatenate(scales)
        x = x @ w0 + theta["b0"]
        x = np.maximum(x, 0) @ theta["w1"] + theta["b1"]
        x = np.maximum(x, 0) @ theta["w2"] + theta["b2"]
        np.testing.assert_allclose(found[:, i, j], x, rtol=1e-4, atol=1e-5)


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
