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
    "wsd": lambda peak, num_steps: optax.join_schedules(
        [
            optax.constant_schedule(peak),
            optax.linear_schedule(peak, 0.0, 0.2 * num_steps),
        ],
        [0.8 * num_steps],
    ),
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
        np.testing.assert_allclose(
            rate(peak, num_steps, count), expected, rtol=1e-5, atol=1e-8
        )


def test_a_traced_index_selects_the_schedule():
    select = jax.vmap(lambda i: schedules.build(i, peak=0.3, num_steps=10)(4))
    by_name = [
        schedules.build(name, peak=0.3, num_steps=10)(4) for name in schedules.SCHEDULES
    ]
    np.testing.assert_array_equal(select(jnp.arange(4)), jnp.stack(by_name))


# Share of 40 steps -> factors of the first 5.
RAMPS = {
    0.0: [1, 1, 1, 1, 1],
    0.025: [1, 1, 1, 1, 1],
    0.05: [1 / 2, 1, 1, 1, 1],
    0.1: [1 / 4, 2 / 4, 3 / 4, 1, 1],
    0.0625: [1 / 2.5, 2 / 2.5, 1, 1, 1],
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("warmup", RAMPS)
@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_warmup_multiplies_by_a_line(name, warmup, traced):
    def rates(name, warmup):
        rate = schedules.build(name, peak=0.3, num_steps=40, warmup=warmup)
        return jax.vmap(rate)(jnp.arange(5))

    plain = jax.vmap(schedules.SCHEDULES[name](0.3, 40))(jnp.arange(5))
    least = 0.05 if name == "wsd" else 0.0
    expected = plain * jnp.array(RAMPS[max(warmup, least)])
    if traced:
        name, rates = list(schedules.SCHEDULES).index(name), jax.jit(rates)
    np.testing.assert_allclose(rates(name, warmup), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_without_warmup_rates_stay_the_same_to_the_digit(name):
    without = schedules.build(name, peak=0.3, num_steps=10)
    for count in range(12):
        assert without(count) == schedules.SCHEDULES[name](0.3, 10)(count)


@pytest.mark.parametrize("warmup", [-0.1, 1.5, 100])
def test_a_warmup_that_is_no_share_is_an_error(warmup):
    with pytest.raises(ValueError, match="share of the run"):
        schedules.build("linear", peak=1.0, num_steps=10, warmup=warmup)


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        schedules.build("linear", peak=1.0, num_steps=0)
