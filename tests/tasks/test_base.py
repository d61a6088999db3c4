"""What families are made with: draws, floors, meta-losses, gradients of losses."""

import jax
import jax.numpy as jnp
import numpy as np
import toys
from families import build

from tasks import base
from tasks.base import above, fixed, log_uniform, normaliser

KEY = jax.random.key(0)


def test_fixed_family_has_one_draw():
    plain = build("quadratic")
    task = plain.task(plain.sample(KEY))
    family = fixed(task, name="one", data=(), base_shapes=plain.shapes)
    assert family.sample(KEY) == family.sample(jax.random.key(1))
    assert family.task(()) is task


def test_normaliser_clips_finite_losses_and_keeps_others():
    normalise = normaliser(2.0)
    losses = jnp.array([-1.0, 1.0, 7.0, 1e30])
    np.testing.assert_array_equal(normalise(losses), [0, 0.5, 3.5, 4])
    assert not np.isfinite(normalise(jnp.array([jnp.nan, jnp.inf]))).any()


def test_log_uniform_is_exact_when_bounds_meet():
    assert log_uniform(KEY, 0.1, 0.1) == np.float32(0.1)


def test_above_a_floor_meta_losses_are_0_at_it_and_1_at_init_as_before():
    family = build("quadratic")
    task = family.task(family.sample(KEY))
    initial = 1 / task.normalise(jnp.float32(1.0))
    floored = above(family, 0.3).task(family.sample(KEY))
    losses = jnp.array([0.1, 0.3, (0.3 + initial) / 2, initial, jnp.inf])
    expected = [0, 0, 0.5, 1, jnp.inf]
    np.testing.assert_allclose(floored.normalise(losses), expected, atol=1e-6)


def test_log_uniform_numbers_are_so_between_their_bounds():
    found = log_uniform(KEY, 0.1, 10.0, (4000,))
    assert 0.1 <= found.min() and found.max() <= 10
    for share in (0.25, 0.5, 0.75):
        seen = np.mean(found < 0.1 * 100**share)
        assert abs(seen - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_task_without_state_has_its_loss_and_gradient_and_stays_without():
    task = toys.quadratic().task(())
    params, batch = {"x": jnp.array([1.0, -2.0])}, jnp.array([0.5, 0.25])
    value, state, grads = base.gradient(task, params, KEY, batch, ())
    # The loss is (1 + 4 x 4) / 2 + .5 - .5, its gradient (1 + .5, -8 + .25).
    assert value == 8.5 and state == ()
    np.testing.assert_allclose(grads["x"], [1.5, -7.75])


def test_a_task_s_own_gradient_and_evaluation_come_before_its_loss():
    own = {
        "gradient": lambda params, key, batch, state: (jnp.float32(1.0), (), params),
        "evaluate": lambda params, key, batch: (jnp.float32(2.0), {}),
    }
    task = toys.quadratic().task(())._replace(**own)
    params, zeros = {"x": jnp.array([1.0, -2.0])}, jnp.zeros(2)
    assert base.gradient(task, params, KEY, zeros, ())[2] is params
    assert base.evaluate(task, params, KEY, zeros, ())[0] == 2
    assert base.loss(task, params, KEY, zeros, ())[0] == 8.5
