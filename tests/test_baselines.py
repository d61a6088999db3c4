import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lopt import mup
from lopt.baselines import BASELINES
from lopt.schedules import SCHEDULES

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.1])}
INFO = mup.infer(
    jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), PARAMS),
    {"w": jax.ShapeDtypeStruct((1, 1), "f4"), "b": jax.ShapeDtypeStruct((1,), "f4")},
)
COSINE = optax.cosine_decay_schedule(0.03, 20)
PLAIN = {
    "sgdm": optax.sgd(COSINE, momentum=0.9),
    "adam": optax.adam(COSINE),
    "adamw": optax.adamw(COSINE, weight_decay=1e-2),
    # `w` is hidden and twice as wide as at the base; `b` is vector-like.
    "muadam": optax.chain(
        optax.adam(COSINE),
        optax.partition(
            {"half": optax.scale(0.5), "whole": optax.scale(1.0)},
            {"w": "half", "b": "whole"},
        ),
    ),
}


def loss(params):
    return jnp.sum((params["w"] @ params["b"] - 1.0) ** 2) + jnp.sum(params["b"] ** 4)


def run(tx, num_steps=20, **extra):
    """Returns the parameters after each step."""
    params, state, path = PARAMS, tx.init(PARAMS), []
    for _ in range(num_steps):
        updates, state = tx.update(jax.grad(loss)(params), state, params, **extra)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return jax.tree.map(lambda *x: jnp.stack(x), *path)


@functools.cache
def built(name, schedule="cosine"):
    return BASELINES[name].build(
        num_steps=20, info=INFO, learning_rate=0.03, schedule=schedule
    )


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_equal_optax_step_by_step(name):
    expected = run(PLAIN[name])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6),
        run(built(name)),
        expected,
    )


@pytest.mark.parametrize("name", BASELINES)
def test_junk_extra_arguments_change_nothing(name):
    with_junk = run(built(name), 2, value=jnp.float32(1.0), junk="ignored")
    jax.tree.map(np.testing.assert_array_equal, with_junk, run(built(name), 2))


@pytest.mark.parametrize("name", BASELINES)
def test_hyperparameters_and_length_may_be_traced(name):
    rates, schedules = jnp.array([0.03, 0.1]), jnp.array([2, 1])

    @jax.jit
    @jax.vmap
    def trial(rate, schedule):
        return run(
            BASELINES[name].build(
                num_steps=jnp.asarray(20),
                info=INFO,
                learning_rate=rate,
                schedule=schedule,
            ),
            3,
        )

    paths = jax.tree.map(lambda x: x[0], trial(rates, schedules))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        paths,
        run(built(name), 3),
    )


@pytest.mark.parametrize("name", BASELINES)
def test_spaces_hold_every_schedule_and_a_fine_wide_grid(name):
    space = BASELINES[name].space
    rates = np.array(space["learning_rate"])
    assert space["schedule"] == tuple(SCHEDULES)
    assert len(rates) >= 13 and rates[-1] / rates[0] >= 999
    assert np.all(np.diff(np.log10(rates)) <= 0.5)


@pytest.mark.parametrize("name", BASELINES)
def test_low_precision_parameters_keep_their_type(name):
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    rate = jnp.float32(0.03)
    tx = BASELINES[name].build(num_steps=20, info=INFO, learning_rate=rate)
    updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


def test_muadam_without_widths_is_an_error():
    with pytest.raises(ValueError, match="mup.infer"):
        BASELINES["muadam"].build(num_steps=1, learning_rate=0.1)
