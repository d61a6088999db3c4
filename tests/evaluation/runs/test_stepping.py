"""One step of a run against one by hand, and what updates are offered."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from evaluation.runs import stepping


def half(state, params):
    return jax.tree.map(lambda x: x / 2, params)


@pytest.mark.parametrize(("judged", "expected"), [(None, 8.5), (half, 2.125)])
def test_a_step_goes_along_the_gradient_and_shows_the_loss_before_it(judged, expected):
    tx = optax.with_extra_args_support(optax.sgd(0.1))
    step = stepping.step(toys.quadratic().task(()), tx, judged)
    params, batch = {"x": jnp.array([1.0, -2.0])}, jnp.array([0.5, 0.25])
    state, shown = step(((params, ()), tx.init(params)), (batch, jax.random.key(0)))
    # The loss is (1 + 4 x 4) / 2 + .5 - .5, its gradient (1 + .5, -8 + .25).
    assert shown == expected
    np.testing.assert_allclose(state[0][0]["x"], [0.85, -1.225], rtol=1e-6)


def test_the_loss_is_offered_by_every_name_that_optax_has_for_it():
    value, params = jnp.float32(3.0), {"x": jnp.array([1.0, 3.0])}
    found = stepping.offered(value, params, lambda p: jnp.sum(p["x"] ** 2))
    assert found["value"] == 3 and found["grad"] is params
    assert found["value_fn"](params, obj_fn=None, grad_fn=None, junk=0) == 10
    assert found["obj_fn"](params, "more") == 10
    np.testing.assert_array_equal(found["grad_fn"](params)["x"], [2.0, 6.0])
