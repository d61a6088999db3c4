"""Augmentations alone against closed forms, and stacked through the whole house."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from families import SMALL
from plain import (
    ES,
    FEWER,
    LATE,
    NOISE,
    ROUNDED,
    SCALES,
    counting,
    key,
    start,
    step_of,
    students,
)

from evaluation.runs import curves
from tasks import base, families
from tasks.wrappers import augmentations, gradients

STACK = (SCALES, ES, NOISE, ROUNDED, FEWER, LATE)
ORDERS = [STACK] + [STACK[i:] + STACK[:i] for i in (2, 3, 4, 5)]


def descend(task, params, rates, num_steps=5):
    """Returns parameters after plain gradient descent at a rate for each leaf."""
    for seed in range(num_steps):
        _, _, grads, _ = step_of(task, params, seed)
        params = jax.tree.map(lambda p, g, r: p - r * g, params, grads, rates)
    return params


@pytest.mark.parametrize("per", ["all", "tensor", "parameter"])
def test_reparametrised_sgd_is_sgd_at_rates_times_the_scale_squared(per):
    with jax.enable_x64():
        inner = students.__wrapped__()
        family = augmentations.reparametrised(inner, scale=(0.3, 3.0), per=per)
        draw, task, params = start(family)
        s = draw["own"]
        rates = jax.tree.map(lambda s: 0.1 * s**2, s)
        plain = inner.task(draw["inner"])
        expected = descend(plain, plain.init(key(1)), rates)
        seen = descend(task, params, jax.tree.map(lambda s: 0.1, s))
        jax.tree.map(
            lambda a, b, s: np.testing.assert_allclose(a * s, b, rtol=1e-10),
            *(seen, expected, s),
        )


def test_scales_are_log_uniform_and_as_many_as_asked_for():
    for per, number in {"all": 1, "tensor": 2, "parameter": 3}.items():
        family = augmentations.reparametrised(counting(), scale=(0.01, 100.0), per=per)
        scales = jax.tree.leaves(family.sample(key(0))["own"])
        assert len(np.unique(np.concatenate([s.ravel() for s in scales]))) == number
    draws = jax.vmap(family.sample)(jax.random.split(key(1), 2000))["own"]
    logs = np.log10(draws["x"])
    assert -2 <= logs.min() < -1.9 and 1.9 < logs.max() <= 2
    np.testing.assert_allclose(np.percentile(logs, [25, 50, 75]), [-1, 0, 1], atol=0.1)


def test_gradients_of_a_reparametrised_task_of_its_own_follow_the_chain_rule():
    inner = gradients.delayed_gradient(students(), delay=1)
    family = augmentations.reparametrised(inner, scale=(3.0, 3.0), per="all")
    draw, task, params = start(family)
    batch = task.batch((), key(2), "train")
    plain = students().task(draw["inner"])
    at = jax.tree.map(lambda p: 3 * p, params)
    slope = jax.grad(lambda p: plain.loss(p, None, batch)[0])(at)
    _, state, zeros = base.gradient(task, params, key(3), batch, task.state)
    _, _, grads = base.gradient(task, params, key(3), batch, state)
    assert all(not g.any() for g in jax.tree.leaves(zeros))
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(g, 3 * e, rtol=1e-5), grads, slope
    )


def test_evaluation_is_that_of_the_parameters_that_the_wrapped_task_sees():
    args = SMALL["resnet"] | {"zero_readout": False}
    inner = families.build("resnet", **args)  # it evaluates by running statistics
    family = augmentations.reparametrised(inner, scale=(0.3, 3.0), per="tensor")
    draw, task, params = start(family)
    plain = inner.task(draw["inner"])
    batch = task.batch(inner.data, key(2), "inner_valid")
    scaled = jax.tree.map(jnp.multiply, params, draw["own"])
    expected = jax.jit(plain.evaluate)(scaled, key(3), batch, plain.state)[0]
    actual = jax.jit(task.evaluate)(params, key(3), batch, task.state)[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_outputs_are_those_of_the_parameters_that_the_wrapped_task_sees():
    family = augmentations.wrap(students(), [SCALES, NOISE, LATE])
    draw, task, params = start(family)
    batch = task.batch((), key(2), "test")
    scaled = jax.tree.map(jnp.multiply, params, draw["inner"]["own"])
    expected = students().outputs(draw["inner"]["inner"], scaled, batch)
    actual = family.outputs(draw, params, batch)
    assert list(actual) == ["hidden0", "readout"]
    np.testing.assert_allclose(actual["readout"], expected["readout"], rtol=1e-6)


def test_es_refuses_to_take_the_place_of_altered_gradients():
    with pytest.raises(ValueError, match="put it before"):
        augmentations.wrap(students(), [NOISE, ES])


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order[0]["name"])
def test_in_any_order_measured_losses_and_states_are_those_of_the_wrapped(order):
    order = [one for one in order if one is not ES]
    family = augmentations.wrap(counting(), order)
    draw, task, params = start(family)
    plain = counting().task(())
    np.testing.assert_allclose(scaled(draw, params), [1, -2], rtol=1e-6)
    value, state, grads, batch = step_of(task, params)
    expected, _ = plain.loss(plain.init(0), None, batch, 0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    loss, aux = base.loss(task, params, key(5), batch, state)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert jax.tree.structure(aux["state"]) == jax.tree.structure(task.state)
    assert base.evaluate(task, params, key(5), batch, aux["state"])[0] == 2


def scaled(draw, params):
    """Returns x of the innermost task: scales are the only draws that are trees."""
    while draw:
        own, draw = draw["own"], draw["inner"]
        if isinstance(own, dict):
            params = jax.tree.map(jnp.multiply, params, own)
    return params["x"]


def test_meta_gradients_through_a_stack_equal_finite_differences():
    with jax.enable_x64():
        stack = [SCALES, ES, NOISE, FEWER, LATE]  # rounding has no slope
        family = augmentations.wrap(counting(), stack)
        inner = toys.inner(toys.heavy_ball(), family, window=5, horizon=9)

        @jax.jit
        def meta_loss(log_lr):
            theta = {"log_lr": log_lr, "decay": 0.5}
            worker = inner.start(theta, {}, key(0))
            return inner.window(theta, worker, {}, key(1))[1].mean()

        value, slope = jax.value_and_grad(meta_loss)(-2.0)
        h = 1e-5
        expected = (meta_loss(-2.0 + h) - meta_loss(-2.0 - h)) / (2 * h)
        assert jnp.isfinite(value) and abs(slope) > 1e-4
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_curves_of_a_stack_start_still_and_then_descend():
    family = augmentations.wrap(students(), STACK)
    found = curves.curves(
        family,
        lambda num_steps, learning_rate: optax.sgd(learning_rate),
        num_steps=60,
        seeds=range(4),
        hyperparameters=[dict(learning_rate=0.0), dict(learning_rate=0.03)],
        valid_every=2,
    )
    assert found.finite.all()
    still, moved = found.valid
    np.testing.assert_array_equal(still[:, :2], moved[:, :2])  # by the delay
    assert (moved[:, -1] < 0.9 * still[:, -1]).all()


def test_draws_of_a_stack_share_one_program_and_its_name_says_all():
    family = augmentations.wrap(students(), STACK)

    @jax.jit
    def run(key):
        task = family.task(family.sample(key))
        return step_of(task, task.init(key))[0]

    assert len({float(run(key(seed))) for seed in range(5)}) == 5
    assert run._cache_size() == 1
    assert family.name == students().name + (
        "-reparametrised-parameter-0.5-2-es2-0.01-noisy-0.1-0.2-bfloat16-first3-delayed2"
    )


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("noisy_gradeint", {}, "unknown augmentation .* Did you mean 'noisy_gradient'"),
        ("reparametrised", dict(scale=(1, 2), per="tensors"), "Did you mean 'tensor'"),
        ("reparametrised", dict(scale=(0, 2), per="all"), "0 < low <= high of scale"),
        ("noisy_gradient", dict(noise=(0.2, 0.1)), "0 < low <= high of noise"),
        ("smaller_batch", dict(batch_size=7), "1 <= batch_size <= 6"),
        ("delayed_gradient", dict(delay=0), "at least 1"),
        ("es_gradient", dict(sigma=0.0, pairs=1), "sigma > 0"),
        ("delayed_gradient", dict(dealy=1), "Did you mean 'delay'"),
        ("delayed_gradient", dict(delay=1.5), "delay of .* must be int, got 1.5"),
        ("noisy_gradient", dict(noise=0.1), "must be tuple.*, got 0.1"),
        ("noisy_gradient", dict(noise=(0.1, "1")), "must be tuple"),
        ("es_gradient", dict(sigma=1), "missing argument of es_gradient: pairs"),
    ],
)
def test_wrong_settings_are_errors(name, args, message):
    with pytest.raises(ValueError, match=message):
        augmentations.wrap(students(), [dict(name=name, args=args)])


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (dict(name="bfloat16_gradient"), "missing part of an augmentation: args"),
        (dict(args={}), "missing part of an augmentation: name"),
        (dict(name="bfloat16_gradient", arg={}), "Did you mean 'args'"),
    ],
)
def test_incomplete_augmentations_are_errors(one, message):
    with pytest.raises(ValueError, match=message):
        augmentations.wrap(students(), [one])
