"""Autoencoders by hand, and the divergence and latents of the variational ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import base, data
from tasks.families import autoencoder

SHARED = dict(
    dataset="digits",
    resolution=4,
    width=8,
    base_width=4,
    depth=2,
    latent=3,
    batch_size=16,
    activations=("relu", "tanh"),
    vary={},
    zero_readout=False,
)
DRAW = {"activation": jnp.int32(1)}  # tanh
KEY = jax.random.key(0)


@functools.cache
def build(loss, **changes):
    if loss == "vae":
        return autoencoder.vae(**SHARED | changes)
    return autoencoder.autoencoder(**SHARED | changes, loss=loss)


every_loss = pytest.mark.parametrize("loss", ["squared", "bernoulli", "vae"])


def start(family):
    """Returns the task, parameters of which none is zero, and a batch."""
    task = family.task(DRAW)
    params = jax.tree.map(lambda p: p + 0.1, jax.jit(task.init)(KEY))
    return task, params, task.batch(family.data, jax.random.key(1), "train")


def dense(x, layer, multiplier=1.0):
    kernel, bias = (np.asarray(layer[name], float) for name in ("kernel", "bias"))
    return (x @ kernel) * multiplier + bias[None]


def by_hand(params, images):
    """Returns outputs and code, where the latent is the first three of the code."""
    mean, std = data.moments(data.load("digits", resolution=4))
    x = (np.asarray(images, float).reshape(len(images), -1) - mean) / std
    for name in ("encoder0", "encoder1"):
        x = np.tanh(dense(x, params[name]))
    code = dense(x, params["bottleneck"], 4 / 8)
    x = code[:, :3]
    for name in ("decoder0", "decoder1"):
        x = np.tanh(dense(x, params[name]))
    return dense(x, params["readout"], 4 / 8), code


def scaled(images):
    return np.asarray(images, float).reshape(len(images), -1) / 16


def cross_entropy(logits, x):
    white = 1 / (1 + np.exp(-logits))
    return -(x * np.log(white) + (1 - x) * np.log(1 - white))


def test_squared_loss_equals_the_network_by_hand():
    task, params, batch = start(build("squared"))
    outputs, _ = by_hand(params, batch["input"])
    expected = ((outputs - scaled(batch["input"])) ** 2).mean()
    loss, _ = task.loss(params, KEY, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_bernoulli_loss_equals_the_network_by_hand():
    task, params, batch = start(build("bernoulli"))
    outputs, _ = by_hand(params, batch["input"])
    expected = cross_entropy(outputs, scaled(batch["input"])).mean()
    loss, _ = task.loss(params, KEY, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_negative_bound_at_the_mean_equals_the_network_by_hand():
    task, params, batch = start(build("vae"))
    logits, code = by_hand(params, batch["input"])
    mean, log_variance = code[:, :3], code[:, 3:]
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1)
    error = cross_entropy(logits, scaled(batch["input"])).sum(1)
    loss, _ = task.loss(params, None, batch)
    np.testing.assert_allclose(loss, (error + kl).mean() / 16, rtol=1e-4)


def test_divergence_equals_a_monte_carlo_estimate():
    code = jnp.array([[0.5, -1.0, -0.7, 0.4], [0.0, 2.0, 0.0, -2.0]])
    mean, std = np.asarray(code[:, :2]), np.exp(np.asarray(code[:, 2:]) / 2)
    noise = np.random.RandomState(0).randn(200_000, 2, 2)
    z = mean[None] + std[None] * noise
    # log q(z) - log p(z), of which constants cancel
    ratios = (z**2 / 2 - noise**2 / 2 - np.log(std)[None]).sum(2)
    expected, error = ratios.mean(0), ratios.std(0) / len(z) ** 0.5
    assert (np.abs(autoencoder.divergence(code) - expected) < 4 * error).all()


def test_divergence_from_the_prior_itself_is_zero():
    np.testing.assert_array_equal(autoencoder.divergence(jnp.zeros((2, 6))), [0, 0])


def test_latents_have_the_mean_and_variance_of_the_code():
    family = build("vae")
    _, params, batch = start(family)
    image = jnp.tile(batch["input"][:1], (5000, 1, 1, 1))  # one code, many latents
    seen = family.outputs(DRAW, params, {"input": image})
    mean, log_variance = np.split(np.asarray(seen["bottleneck"][0]), 2)
    kernel, bias = (np.asarray(params["decoder0"][x]) for x in ("kernel", "bias"))
    decoder = np.asarray(seen["decoder0"])
    expected = kernel.T @ np.diag(np.exp(log_variance)) @ kernel
    np.testing.assert_allclose(decoder.mean(0), mean @ kernel + bias, atol=0.1)
    np.testing.assert_allclose(np.cov(decoder.T), expected, atol=0.1)


def test_the_key_of_the_loss_draws_latents_of_the_vae_alone():
    for loss, differ in (("vae", True), ("bernoulli", False)):
        task, params, batch = start(build(loss))
        one, same, other = (
            float(task.loss(params, jax.random.key(seed), batch)[0])
            for seed in (0, 0, 1)
        )
        assert one == same and (one != other) == differ


@every_loss
def test_zero_readout_starts_at_the_loss_that_normalises(loss):
    family = build(loss, zero_readout=True)
    task, params, batch = start(family)
    params = jax.jit(task.init)(KEY)
    found, _ = task.loss(params, KEY, batch)
    x, train = (scaled(b["input"]) for b in (batch, family.data["train"]))
    expected = (x**2).mean() if loss == "squared" else np.log(2)
    initial = (train**2).mean() if loss == "squared" else np.log(2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(task.normalise(found), found / initial, rtol=1e-5)


@every_loss
def test_three_steps_from_zero_readouts_move_every_weight(loss):
    family = build(loss, zero_readout=True)
    task, _, batch = start(family)
    gradient = jax.jit(functools.partial(base.gradient, task))
    params = jax.jit(task.init)(KEY)
    for seed in range(3):
        _, _, grads = gradient(params, jax.random.key(seed), batch, task.state)
        params = jax.tree.map(lambda p, g: p - g, params, grads)
    assert all(bool((leaf != 0).any()) for leaf in jax.tree.leaves(grads))


def test_labels_are_not_read():
    task, params, batch = start(build("vae"))
    losses = [
        task.loss(params, KEY, {"input": batch["input"], "label": label})[0]
        for label in (batch["label"], jnp.full_like(batch["label"], -1))
    ]
    assert losses[0] == losses[1]


def size(family):
    return sum(leaf.size for leaf in jax.tree.leaves(family.shapes))


def test_parameter_counts_are_those_documented():
    digits = dict(resolution=None, width=32, latent=4)
    assert size(build("squared", **digits)) == 6596
    assert size(build("vae", **digits)) == 6728


def test_the_bottleneck_keeps_its_size():
    family = build("vae")
    shapes = jax.tree.map(
        lambda a, b: (a.shape, b.shape), family.shapes, family.base_shapes
    )
    assert shapes["bottleneck"]["kernel"] == ((8, 6), (4, 6))
    assert shapes["decoder0"]["kernel"] == ((3, 8), (3, 4))


def test_tables_are_reproduced_too():
    family = build("bernoulli", dataset="iris", resolution=None, zero_readout=True)
    task = family.task(DRAW)
    batch = task.batch(family.data, KEY, "test")
    loss, _ = task.loss(task.init(KEY), None, batch)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(loss="square"), "Did you mean 'squared'"),
        (dict(latent=0), "at least 1"),
        (dict(depth=0), "at least 1"),
        (dict(width=0), "width must be at least 1, got 0"),
        (dict(vary={"classes": (2, 3)}), r"got vary=\{'classes': \(2, 3\)\}"),
        (dict(vary={"label_noise": (0.1, 0.2)}), "need labels"),
    ],
)
def test_wrong_settings_are_errors_that_say_why(wrong, message):
    with pytest.raises(ValueError, match=message):
        autoencoder.autoencoder(**SHARED | dict(loss="squared") | wrong)
