"""Convolutional families against SciPy and Flax, and the state that they carry."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.signal
import toys

from evaluation.runs import curves
from meta_train.inner import options
from tasks import base, data
from tasks.families import conv
from tasks.networks import layers

SHARED = dict(
    dataset="digits",
    resolution=4,
    width=8,
    base_width=4,
    stages=2,
    batch_size=16,
    activations=("relu", "tanh"),
    vary={},
    zero_readout=False,
)
PLAIN = SHARED | dict(depth=3)
RESIDUAL = SHARED | dict(depth=2, norm="batch")
DRAW = {"activation": jnp.int32(1)}  # tanh
BUILD = {"conv": conv.conv, "resnet": conv.resnet}
KEY = jax.random.key(0)


@functools.cache
def resnet(norm="batch", **changes):
    return conv.resnet(**RESIDUAL | dict(norm=norm) | changes)


def start(family, seed=0):
    """Returns the task, parameters of which none is zero, and a batch."""
    task = family.task(DRAW)
    params = jax.jit(task.init)(jax.random.key(seed))
    params = jax.tree.map(lambda p: p + 0.1, params)
    return task, params, task.batch(family.data, jax.random.key(seed + 1), "train")


def convolved(x, layer, stride):
    """Returns the convolution of images by SciPy, at every stride-th pixel."""
    kernel = np.asarray(layer["kernel"])
    y = np.stack(
        [
            sum(
                scipy.signal.correlate2d(image[..., i], kernel[..., i, o], "same")
                for i in range(kernel.shape[2])
            )
            for image in np.asarray(x)
            for o in range(kernel.shape[3])
        ]
    ).reshape(len(x), kernel.shape[3], *x.shape[1:3])
    return y.transpose(0, 2, 3, 1)[:, ::stride, ::stride] + np.asarray(layer["bias"])


def standardised(images):
    mean, std = data.moments(data.load("digits", resolution=4))
    return (np.asarray(images, float) - mean) / std


def readout(x, layer):
    pooled = x.mean((1, 2)) @ np.asarray(layer["kernel"])
    return pooled * (4 / 8) + np.asarray(layer["bias"])[None]


@pytest.mark.parametrize(("size", "stride"), [(4, 1), (4, 2), (5, 2), (1, 2)])
def test_convolution_equals_scipy(size, stride):
    x = jax.random.normal(KEY, (2, size, size, 3))
    module = conv.Conv(features=5, stride=stride, bias=True)
    params = jax.tree.map(lambda p: p + 0.1, module.init(KEY, x)["params"])
    expected = convolved(x, params, stride)
    actual = module.apply({"params": params}, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [4, 16])
def test_kernels_start_with_one_over_the_root_of_their_fan_in(channels):
    module = conv.Conv(features=512, stride=1, bias=False)
    params = module.init(KEY, jnp.zeros((1, 2, 2, channels)))["params"]
    kernel = np.asarray(params["kernel"])
    # Of n numbers the deviation is known to 1/sqrt(2 n), here to half a percent.
    np.testing.assert_allclose(kernel.std(), (9 * channels) ** -0.5, rtol=0.02)
    assert abs(kernel.mean()) < 0.02 * kernel.std()


def test_plain_network_equals_scipy():
    family = conv.conv(**PLAIN)
    task, params, batch = start(family)
    x = standardised(batch["input"])
    for name, stride in (("conv0", 1), ("conv1", 1), ("conv2", 2)):
        x = np.tanh(convolved(x, params[name], stride))
    _, aux = task.loss(params, None, batch)
    expected = readout(x, params["readout"])
    np.testing.assert_allclose(aux["logits"], expected, rtol=1e-3, atol=1e-3)


def test_residual_network_equals_scipy():
    task, params, batch = start(resnet("none"))
    x = convolved(standardised(batch["input"]), params["stem"], 1)
    for name, stride in (("block0", 1), ("block1", 2)):
        y = convolved(np.tanh(x), params[name]["conv0"], stride)
        y = convolved(np.tanh(y), params[name]["conv1"], 1)
        x = x[:, ::stride, ::stride] + y
    _, aux = task.loss(params, None, batch)
    expected = readout(np.tanh(x), params["readout"])
    np.testing.assert_allclose(aux["logits"], expected, rtol=1e-3, atol=1e-3)


FLAX = {
    "batch": nn.BatchNorm(use_running_average=False, epsilon=layers.EPSILON),
    "layer": nn.GroupNorm(num_groups=1, epsilon=layers.EPSILON),
    "group": nn.GroupNorm(num_groups=layers.GROUPS, epsilon=layers.EPSILON),
}


@pytest.mark.parametrize("kind", FLAX)
def test_norm_equals_flax(kind):
    x = 3 + 2 * jax.random.normal(KEY, (5, 4, 4, 8))
    affine = {"scale": jnp.arange(8.0), "bias": jnp.arange(8.0, 16.0)}
    norm, variables = layers.Norm(kind), {"params": affine}
    actual, _ = norm.apply(variables, x, True, mutable=["state"])
    expected, _ = FLAX[kind].apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_running_averages_equal_a_loop_over_training_steps():
    family = resnet()
    task, params, _ = start(family)
    state, mean, variance = task.state, np.zeros(8), np.ones(8)
    gradient = jax.jit(functools.partial(base.gradient, task))
    for seed in range(4):
        batch = task.batch(family.data, jax.random.key(seed), "train")
        stem = np.asarray(family.outputs(DRAW, params, batch)["stem"])
        mean = 0.9 * mean + 0.1 * stem.mean((0, 1, 2))
        variance = 0.9 * variance + 0.1 * stem.var((0, 1, 2))
        _, state, grads = gradient(params, KEY, batch, state)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    actual = state["state"]["block0"]["norm0"]
    np.testing.assert_allclose(actual["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual["variance"], variance, rtol=1e-4)


def scored(function, task, params, batch, state):
    return function(task, params, KEY, batch, state)[1]["logits"]


def test_evaluation_uses_running_averages_and_training_those_of_the_batch():
    task, params, batch = start(resnet())
    moved = jax.tree.map(lambda x: x + 0.5, task.state)
    few = {name: x[:3] for name, x in batch.items()}
    train, evaluate = (
        functools.partial(scored, function, task, params)
        for function in (base.loss, base.evaluate)
    )
    close = functools.partial(np.allclose, rtol=1e-4, atol=1e-4)
    assert close(evaluate(few, moved), evaluate(batch, moved)[:3])
    assert not close(evaluate(batch, moved), evaluate(batch, task.state))
    assert close(train(batch, moved), train(batch, task.state))
    assert not close(train(few, moved), train(batch, moved)[:3])


def test_evaluation_by_the_moments_of_a_batch_equals_training_on_it():
    task, params, batch = start(resnet(depth=1, stages=1))
    state = task.state
    step = jax.jit(lambda state: base.loss(task, params, KEY, batch, state)[1]["state"])
    for _ in range(150):  # 0.9^150 is about 1e-7
        state = step(state)
    trained, evaluated = (
        scored(function, task, params, batch, state)
        for function in (base.loss, base.evaluate)
    )
    np.testing.assert_allclose(evaluated, trained, rtol=1e-3, atol=1e-3)


def test_evaluation_does_not_move_the_averages():
    task, params, batch = start(resnet())
    _, aux = base.evaluate(task, params, KEY, batch, task.state)
    jax.tree.map(np.testing.assert_array_equal, aux["state"], task.state)


def test_curves_carry_the_averages_as_a_python_loop_does():
    family = resnet()
    track = curves.track(family, valid_every=3)
    runner = curves.runner(track, lambda num_steps: optax.sgd(0.1))
    found = curves.run(runner, num_steps=3, seeds=[5])
    start = track.start(np.asarray([5]))
    batches, _ = track.batches(*start[:2], family.data, 0)
    draw, _, (params, state) = jax.tree.map(lambda x: x[0], start)
    task = family.task(draw)
    gradient = jax.jit(functools.partial(base.gradient, task))
    for index in range(3):
        batch = jax.tree.map(lambda x, i=index: x[0, i], batches)
        _, state, grads = gradient(params, KEY, batch, state)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    loss, _ = base.evaluate(task, params, KEY, family.data["inner_valid"], state)
    np.testing.assert_allclose(found.valid[0, 0, -1], loss, rtol=1e-4)


@pytest.mark.parametrize("horizon", [3, 9])
def test_windows_carry_the_averages_until_the_horizon(horizon):
    rule, family = toys.heavy_ball(), resnet()
    inner = options.inner(
        rule=rule,
        family=family,
        window=3,
        horizon=(horizon, horizon),
        growth=0,
        reduce="mean",
        valid_weight=0.5,
        log_offset=None,
        schedule=None,
        stagger=False,
        fresh=1.0,
        imitation=None,
    )
    theta = rule.init(KEY)
    worker = inner.start(theta, family.data, KEY)
    worker, losses = jax.jit(inner.window)(theta, worker, family.data, KEY)
    assert np.isfinite(losses.value).all()
    variance = worker.carried["state"]["norm"]["variance"]
    assert bool((variance == 1).all()) == (horizon == 3)


@pytest.mark.parametrize("name", BUILD)
def test_zero_readout_starts_at_log_ten_exactly(name):
    args = {"conv": PLAIN, "resnet": RESIDUAL}[name] | dict(zero_readout=True)
    family = BUILD[name](**args)
    task = family.task(DRAW)
    batch = task.batch(family.data, KEY, "train")
    params = jax.jit(task.init)(KEY)
    for function in (base.loss, base.evaluate):
        loss, _ = function(task, params, KEY, batch, task.state)
        np.testing.assert_allclose(loss, np.log(10), rtol=1e-6)


def size(family):
    return sum(leaf.size for leaf in jax.tree.leaves(family.shapes))


def test_parameter_counts_are_those_documented():
    digits = dict(resolution=None, width=16, base_width=16)
    assert size(conv.conv(**PLAIN | digits | dict(depth=4))) == 7290
    assert size(conv.resnet(**RESIDUAL | digits)) == 9690


def test_names_tell_norm_and_resolution_apart():
    assert conv.conv(**PLAIN).name == "conv-digits@4-width8-depth3-batch16"
    assert resnet("group").name == "resnet-group-digits@4-width8-depth2-batch16"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(vary={"batch_size": (1, 4)}), "would still enter the statistics"),
        (dict(norm="group", width=6), "needs widths that 4 divides"),
        (dict(norm="bach"), "Did you mean 'batch'"),
        (dict(stages=3), "1 <= stages <= depth"),
        (dict(batch_size=0), "batch_size must be at least 1, got 0"),
        (dict(width=0), "width must be at least 1, got 0"),
        (dict(base_width=-4), "base_width must be at least 1, got -4"),
        (dict(dataset="iris", resolution=None), "need images"),
    ],
)
def test_wrong_settings_are_errors_that_say_why(wrong, message):
    with pytest.raises(ValueError, match=message):
        conv.resnet(**RESIDUAL | wrong)
