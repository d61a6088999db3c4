"""Layers stacked in one leaf are updated as those that are apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_rule import ARGS

from lopt import mup, rules, stacking

RULE = rules.build("mlp", **(ARGS | {"signal": True, "nominal": 1.0, "step_mult": 0.1}))
THETA = jax.tree.map(lambda x: x + 0.1, RULE.init(jax.random.key(0)))
STACK = {
    "layers": {"w": jnp.linspace(-1, 1, 60).reshape(5, 3, 4), "b": jnp.ones([5, 4])},
    "out": jnp.linspace(0, 1, 8).reshape(4, 2),
}
MASK = {"layers": True, "out": False}
APART = {"out": STACK["out"]} | {
    f"{k}{n}": STACK["layers"][k][n] for k in "wb" for n in range(5)
}


def rule():
    return RULE.bind(THETA, num_steps=100)


def run(tx, params, steps=3):
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(steps):
        grads = jax.tree.map(lambda x, n=step: jnp.sin(7 * x + n), params)
        updates, state = update(grads, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("mask", [MASK, lambda params: MASK])
def test_layers_move_as_if_they_were_apart(mask):
    found, expected = run(stacking.unstacked(rule(), mask), STACK), run(rule(), APART)
    np.testing.assert_allclose(found["out"], expected["out"], rtol=1e-5)
    for k in "wb":
        layers = np.stack([expected[f"{k}{n}"] for n in range(5)])
        np.testing.assert_allclose(found["layers"][k], layers, rtol=1e-5)
    assert np.abs(run(rule(), STACK)["layers"]["w"] - found["layers"]["w"]).max() > 1e-2


def test_without_a_stack_nothing_changes():
    none = jax.tree.map(lambda x: False, STACK)
    jax.tree.map(
        np.testing.assert_array_equal,
        run(stacking.unstacked(rule(), none), STACK),
        run(rule(), STACK),
    )


def test_widths_are_those_of_layers():
    def shapes(n):
        stack = {"w": jax.ShapeDtypeStruct((7, n, n), jnp.float32)}
        return jax.eval_shape(lambda x: stacking.split({"w": True}, x), stack)

    info = mup.infer(shapes(8), shapes(4))
    assert mup.width_ratios(info) == (2.0, 2.0)


def test_gradients_alone_are_enough_for_what_needs_no_parameters():
    tx = stacking.unstacked(optax.scale_by_adam(), MASK)
    updates, _ = tx.update(STACK, tx.init(STACK))
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, STACK)


def test_a_scalar_is_no_stack():
    with pytest.raises(ValueError, match="no axis of layers"):
        stacking.unstacked(rule(), {"s": True}).init({"s": jnp.ones([])})
