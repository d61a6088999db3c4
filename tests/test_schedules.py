import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lopt import schedules

OPTAX = {
    "constant": lambda peak, num_steps: optax.constant_schedule(peak),
    "linear": lambda peak, num_steps: optax.linear_schedule(peak, 0.0, num_steps),
    "cosine": optax.cosine_decay_schedule,
}
COUNTS = jnp.arange(0, 15)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedules_equal_optax_s(name):
    ours = jax.vmap(schedules.SCHEDULES[name](0.3, 10))(COUNTS)
    theirs = jax.vmap(OPTAX[name](0.3, 10))(COUNTS)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_peak_and_length_may_be_traced(name):
    @jax.jit
    def rate(peak, num_steps, count):
        return schedules.build(name, peak=peak, num_steps=num_steps)(count)

    for peak, num_steps, count in [(0.3, 10, 4), (1.0, 7, 7), (0.1, 200, 199)]:
        expected = OPTAX[name](peak, num_steps)(count)
        np.testing.assert_allclose(rate(peak, num_steps, count), expected, rtol=1e-5)


def test_a_traced_index_selects_the_schedule():
    select = jax.vmap(lambda i: schedules.build(i, peak=0.3, num_steps=10)(4))
    by_name = [
        schedules.build(name, peak=0.3, num_steps=10)(4) for name in schedules.SCHEDULES
    ]
    np.testing.assert_array_equal(select(jnp.arange(3)), jnp.stack(by_name))


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="num_steps >= 1"):
        schedules.build("linear", peak=1.0, num_steps=0)
