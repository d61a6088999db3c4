"""Augmentations alone against closed forms, and stacked through the whole house."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import toys

from evaluation import curves
from tasks import augment, base, teacher
from tasks.base import Task, fixed
from tasks.quadratic import quadratic

SCALES = dict(name="reparametrised", args=dict(scale=[0.5, 2.0], per="parameter"))
NOISE = dict(name="noisy_gradient", args=dict(noise=(0.1, 0.2)))
FEWER = dict(name="smaller_batch", args=dict(batch_size=3))
ROUNDED = dict(name="bfloat16_gradient", args={})
LATE = dict(name="delayed_gradient", args=dict(delay=2))
ES = dict(name="es_gradient", args=dict(sigma=0.01, pairs=2))
STACK = (SCALES, ES, NOISE, ROUNDED, FEWER, LATE)
ORDERS = [STACK] + [STACK[i:] + STACK[:i] for i in (2, 3, 4, 5)]


def key(seed):
    return jax.random.key(seed)


@functools.cache
def students():
    """Returns tiny students whose readout does not start at zero."""
    return teacher.teacher_student(
        inputs=3,
        outputs=1,
        teacher_width=4,
        teacher_depth=1,
        width=4,
        base_width=2,
        depth=1,
        batch_size=6,
        activations=("tanh",),
        noise=(0.0, 0.0),
        zero_readout=False,
    )


def counting():
    """Returns half squared distances to inputs, whose state is the number of losses."""

    def loss(params, key, batch, state):
        distance = jnp.sum((params["x"][None] - batch["input"]) ** 2, 1).mean()
        return 0.5 * (distance + params["y"] ** 2), {"state": state + 1}

    def evaluate(params, key, batch, state):
        return state.astype(float), {"state": state}

    task = Task(
        init=lambda key: {"x": jnp.array([1.0, -2.0]), "y": jnp.array(3.0)},
        loss=loss,
        batch=lambda data, key, split: {"input": jax.random.normal(key, [4, 2])},
        normalise=lambda value: value,
        state=jnp.int32(0),
        evaluate=evaluate,
    )
    shapes = jax.eval_shape(task.init, key(0))
    return fixed(task, name="counting", data={}, base_shapes=shapes)


def start(family, seed=0):
    draw = family.sample(key(seed))
    task = family.task(draw)
    return draw, task, task.init(key(seed + 1))


def step_of(task, params, seed=2):
    """Returns loss, next state and gradient on a batch, and the batch."""
    batch = task.batch((), key(seed), "train")
    return *base.gradient(task, params, key(3), batch, task.state), batch


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
        family = augment.reparametrised(inner, scale=(0.3, 3.0), per=per)
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
        family = augment.reparametrised(counting(), scale=(0.01, 100.0), per=per)
        scales = jax.tree.leaves(family.sample(key(0))["own"])
        assert len(np.unique(np.concatenate([s.ravel() for s in scales]))) == number
    draws = jax.vmap(family.sample)(jax.random.split(key(1), 2000))["own"]
    logs = np.log10(draws["x"])
    assert -2 <= logs.min() < -1.9 and 1.9 < logs.max() <= 2
    np.testing.assert_allclose(np.percentile(logs, [25, 50, 75]), [-1, 0, 1], atol=0.1)


def test_gradients_of_a_reparametrised_task_of_its_own_follow_the_chain_rule():
    inner = augment.delayed_gradient(students(), delay=1)
    family = augment.reparametrised(inner, scale=(3.0, 3.0), per="all")
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


def test_outputs_are_those_of_the_parameters_that_the_wrapped_task_sees():
    family = augment.wrap(students(), [SCALES, NOISE, LATE])
    draw, task, params = start(family)
    batch = task.batch((), key(2), "test")
    scaled = jax.tree.map(jnp.multiply, params, draw["inner"]["own"])
    expected = students().outputs(draw["inner"]["inner"], scaled, batch)
    actual = family.outputs(draw, params, batch)
    assert list(actual) == ["hidden0", "readout"]
    np.testing.assert_allclose(actual["readout"], expected["readout"], rtol=1e-6)


def test_noise_has_the_share_of_each_tensors_gradient():
    family = augment.noisy_gradient(students(), noise=(0.3, 0.3))
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
    family = augment.noisy_gradient(counting(), noise=(0.01, 1.0))
    levels = jax.vmap(family.sample)(jax.random.split(key(0), 2000))["own"]
    assert 0.01 <= levels.min() < 0.011 and 0.95 < levels.max() <= 1
    np.testing.assert_allclose(np.median(levels), 0.1, rtol=0.1)


def test_a_zero_gradient_stays_zero_and_differentiable_under_noise():
    noised = functools.partial(augment._noised, key(0), level=jnp.float32(0.5))
    zeros = {"x": jnp.zeros(3)}
    assert not noised(grads=zeros)["x"].any()
    slope = jax.jacrev(lambda g: noised(grads=g)["x"])(zeros)["x"]
    np.testing.assert_array_equal(slope, np.eye(3))


def test_a_smaller_batch_gives_the_gradient_of_its_first_examples():
    family = augment.smaller_batch(students(), batch_size=2)
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
    family = augment.bfloat16_gradient(students())
    draw, task, params = start(family)
    _, _, exact, _ = jax.jit(lambda p: step_of(students().task(draw), p))(params)
    _, _, grads, _ = jax.jit(lambda p: step_of(task, p))(params)
    for e, g in zip(*map(jax.tree.leaves, (exact, grads)), strict=True):
        expected = np.asarray(e).astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(g, expected)
        assert (e != g).any() and g.dtype == jnp.float32


@pytest.mark.parametrize("delay", [1, 3])
def test_delayed_gradients_come_in_order_after_zeros(delay):
    family = augment.delayed_gradient(counting(), delay=delay)
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
    family = augment.es_gradient(counting(), sigma=0.5, pairs=20_000)
    _, task, params = start(family)
    value, state, grads, batch = step_of(task, params)
    exact = params["x"] - batch["input"].mean(0)  # quadratics have no bias
    np.testing.assert_allclose(grads["x"], exact, atol=0.05)
    np.testing.assert_allclose(value, counting().task(()).loss(params, 0, batch, 0)[0])
    assert state == 1
    # With one pair the estimate is e (e . g), which never points away from g.
    few = augment.es_gradient(counting(), sigma=0.5, pairs=1).task(())
    one = step_of(few, params)[2]
    assert one["x"] @ exact + one["y"] * params["y"] > 0


def test_es_refuses_to_take_the_place_of_altered_gradients():
    with pytest.raises(ValueError, match="put it before"):
        augment.wrap(students(), [NOISE, ES])


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order[0]["name"])
def test_in_any_order_measured_losses_and_states_are_those_of_the_wrapped(order):
    order = [one for one in order if one is not ES]
    family = augment.wrap(counting(), order)
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
        params = (
            jax.tree.map(jnp.multiply, params, own)
            if isinstance(own, dict)
            else (params)
        )
    return params["x"]


def test_meta_gradients_through_a_stack_equal_finite_differences():
    with jax.enable_x64():
        stack = [SCALES, ES, NOISE, FEWER, LATE]  # rounding has no slope
        family = augment.wrap(counting(), stack)
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
    family = augment.wrap(students(), STACK)
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
    family = augment.wrap(students(), STACK)

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
    ],
)
def test_wrong_settings_are_errors(name, args, message):
    with pytest.raises(ValueError, match=message):
        augment.wrap(students(), [dict(name=name, args=args)])


def test_batches_without_examples_cannot_be_made_smaller():
    ranges = dict(condition=(1.0, 9.0), noise=(0.1, 0.1))
    family = quadratic(dimension=3, spectrum="uniform", rotation=False, **ranges)
    with pytest.raises(ValueError, match="no examples to choose from"):
        augment.smaller_batch(family, batch_size=1)
