"""Wrapped gradients against closed forms."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from families import build
from plain import counting, key, start, step_of, students

from tasks import base
from tasks.families.quadratic import quadratic
from tasks.wrappers import gradients


def test_noise_has_the_share_of_each_tensors_gradient():
    family = gradients.noisy_gradient(students(), noise=(0.3, 0.3))
    draw, task, params = start(family)
    batch = task.batch((), key(2), "train")
    plain = students().task(draw["inner"])
    exact = jax.grad(lambda p: plain.loss(p, None, batch)[0])(params)
    noisy = jax.jit(jax.vmap(lambda k: base.gradient(task, params, k, batch, ())[2]))(
        jax.random.split(key(4), 4000)
    )
    for g, n in zip(*map(jax.tree.leaves, (exact, noisy)), strict=True):
        rms = np.sqrt(np.mean(np.square(g)))
        np.testing.assert_allclose((n - g[None]).std(0) / rms, 0.3, rtol=0.1)
        np.testing.assert_allclose(n.mean(0), g, atol=0.03 * rms)


def test_noise_levels_are_log_uniform():
    family = gradients.noisy_gradient(counting(), noise=(0.01, 1.0))
    levels = jax.vmap(family.sample)(jax.random.split(key(0), 2000))["own"]
    assert 0.01 <= levels.min() < 0.011 and 0.95 < levels.max() <= 1
    np.testing.assert_allclose(np.median(levels), 0.1, rtol=0.1)


@pytest.mark.parametrize(
    "wrapper",
    [
        functools.partial(gradients.noisy_gradient, noise=(0.3, 0.3)),
        functools.partial(gradients.smaller_batch, batch_size=2),
        functools.partial(gradients.es_gradient, sigma=0.1, pairs=1),
        functools.partial(gradients.delayed_gradient, delay=1),
        gradients.bfloat16_gradient,
    ],
)
def test_values_are_those_of_the_wrapped_task_where_losses_are_drawn(wrapper):
    inner = build("vae")
    draw, task, params = start(wrapper(inner))
    params = jax.tree.map(lambda p: p + 0.1, params)  # else no output is drawn
    plain = inner.task(draw.get("inner", draw))
    batch = task.batch(inner.data, key(2), "train")
    expected = base.loss(plain, params, key(3), batch, ())[0]
    value = base.gradient(task, params, key(3), batch, task.state)[0]
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_noise_on_noise_is_other_noise():
    once = gradients.noisy_gradient(students(), noise=(0.3, 0.3))
    twice = gradients.noisy_gradient(once, noise=(0.3, 0.3))
    draw, task, params = start(twice)
    batch, draw = task.batch((), key(2), "train"), draw["inner"]
    plain = students().task(draw["inner"])

    def gradient(task, k):
        return base.gradient(task, params, k, batch, ())[2]["hidden0"]["kernel"]

    exact, first, second = (
        jax.jit(jax.vmap(lambda k, t=t: gradient(t, k)))(jax.random.split(key(4), 200))
        for t in (plain, once.task(draw), task)
    )
    noises = np.ravel(first - exact), np.ravel(second - first)
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.1


def test_a_zero_gradient_stays_zero_and_differentiable_under_noise():
    noised = functools.partial(gradients._noised, key(0), level=jnp.float32(0.5))
    zeros = {"x": jnp.zeros(3)}
    assert not noised(grads=zeros)["x"].any()
    slope = jax.jacrev(lambda g: noised(grads=g)["x"])(zeros)["x"]
    np.testing.assert_array_equal(slope, np.eye(3))


def test_a_smaller_batch_gives_the_gradient_of_its_first_examples():
    family = gradients.smaller_batch(students(), batch_size=2)
    draw, task, params = start(family)
    value, _, grads, batch = step_of(task, params)
    plain = students().task(draw)
    few = {name: x[:2] for name, x in batch.items()}
    expected = jax.grad(lambda p: plain.loss(p, None, few)[0])(params)
    assert len(batch["input"]) == 6
    np.testing.assert_allclose(value, plain.loss(params, None, batch)[0], rtol=1e-6)
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-5), grads, expected
    )


def test_a_compiled_bfloat16_gradient_is_the_gradient_cast_there_and_back():
    family = gradients.bfloat16_gradient(students())
    draw, task, params = start(family)
    _, _, exact, _ = jax.jit(lambda p: step_of(students().task(draw), p))(params)
    _, _, grads, _ = jax.jit(lambda p: step_of(task, p))(params)
    for e, g in zip(*map(jax.tree.leaves, (exact, grads)), strict=True):
        expected = np.asarray(e).astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(g, expected)
        assert (e != g).any() and g.dtype == jnp.float32


@pytest.mark.parametrize("delay", [1, 3])
def test_delayed_gradients_come_in_order_after_zeros(delay):
    family = gradients.delayed_gradient(counting(), delay=delay)
    _, task, params = start(family)
    state, given, exact = task.state, [], []
    for seed in range(6):
        batch = task.batch({}, key(seed), "train")
        _, state, grads = base.gradient(task, params, key(9), batch, state)
        given.append(grads["x"])
        exact.append(params["x"] - batch["input"].mean(0))
        params = params | {"x": params["x"] * 0.9}
    np.testing.assert_array_equal(given[:delay], np.zeros([delay, 2]))
    np.testing.assert_allclose(given[delay:], exact[:-delay], rtol=1e-5, atol=1e-6)
    assert state["inner"] == 6 and state["queue"]["x"].shape == (delay, 2)


def test_es_gradients_are_slopes_along_perturbations_times_those():
    family = gradients.es_gradient(counting(), sigma=0.5, pairs=20_000)
    _, task, params = start(family)
    value, state, grads, batch = step_of(task, params)
    exact = params["x"] - batch["input"].mean(0)  # quadratics have no bias
    np.testing.assert_allclose(grads["x"], exact, atol=0.05)
    np.testing.assert_allclose(value, counting().task(()).loss(params, 0, batch, 0)[0])
    assert state == 1
    # With one pair the estimate is e (e . g), which never points away from g.
    few = gradients.es_gradient(counting(), sigma=0.5, pairs=1).task(())
    one = step_of(few, params)[2]
    assert one["x"] @ exact + one["y"] * params["y"] > 0


def test_batches_without_examples_cannot_be_made_smaller():
    ranges = dict(condition=(1.0, 9.0), noise=(0.1, 0.1))
    family = quadratic(dimension=3, spectrum="uniform", rotation=False, **ranges)
    with pytest.raises(ValueError, match="no examples to choose from"):
        gradients.smaller_batch(family, batch_size=1)
