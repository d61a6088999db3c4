"""What every builder keeps to: its arguments, traced or not, types and buffers."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baseline_run import INFO, PARAMS, built, close, every, gradient, run

from lopt.baselines import BASELINES
from lopt.baselines.spaces import point
from lopt.schedules import SCHEDULES


@functools.cache
def path(name):
    return run(built(name))


@every
def test_state_and_parameters_may_both_be_donated(name):
    params = jax.tree.map(jnp.float32, PARAMS)
    tx = built(name)
    step = jax.jit(tx.update, donate_argnums=(1, 2))
    updates, _ = step(gradient(PARAMS), tx.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


@every
def test_junk_extra_arguments_change_nothing(name):
    with_junk = run(built(name), value=jnp.float32(1.0), junk=0)
    jax.tree.map(np.testing.assert_array_equal, with_junk, path(name))


@every
def test_hyperparameters_and_length_may_be_traced(name):
    space = BASELINES[name].space
    points = [point(space, [u] * len(space)) for u in (0.3, 0.6)]
    numbers = [
        {k: list(SCHEDULES).index(v) if k == "schedule" else v for k, v in p.items()}
        for p in points
    ]
    traced = jax.tree.map(lambda *x: jnp.stack(x), *jax.tree.map(jnp.asarray, numbers))

    def trial(num_steps, own):
        return run(BASELINES[name].build(num_steps=num_steps, info=INFO, **own), 5)

    found = jax.jit(jax.vmap(trial, in_axes=(None, 0)))(jnp.int32(20), traced)
    for i, own in enumerate(points):
        close(jax.tree.map(lambda x, i=i: x[i], found), trial(20, own), 1e-4)


@every
def test_builders_say_what_they_take(name):
    arguments = inspect.signature(BASELINES[name].build).parameters
    common = ["num_steps", "info", "learning_rate", "schedule", "warmup"]
    assert list(itertools.islice(arguments, 5)) == common
    assert {p.kind for p in arguments.values()} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError, match="'nonsense'"):
        built(name, nonsense=1.0)


@every
def test_low_precision_parameters_keep_their_type(name):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), PARAMS)
    tx = built(name, learning_rate=jnp.float32(0.03))
    updates, state = tx.update(params, tx.init(params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype.name for x in jax.tree.leaves(state)} <= {"float32", "int32"}


@pytest.mark.parametrize("name", ["muadam", "musgd", "muon"])
def test_without_widths_what_needs_them_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name} needs info=mup.infer"):
        BASELINES[name].build(num_steps=1, learning_rate=0.1)
