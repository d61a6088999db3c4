"""Vision transformers and mixers: patches, blocks by hand, and what they ignore."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data
from tasks.families import mixer, vit

IMAGES = dict(
    dataset="digits",
    resolution=None,
    patch=4,
    width=16,
    base_width=4,
    depth=1,
    mlp_ratio=2,
    batch_size=5,
    activations=("tanh",),
    vary={},
)
BUILDERS = {
    "vit": functools.partial(vit.vit, heads=2),
    "mixer": functools.partial(mixer.mixer, token_hidden=3),
}
every_model = pytest.mark.parametrize("name", BUILDERS)


def build(name, **more):
    return BUILDERS[name](**{**IMAGES, "zero_readout": False, **more})


@functools.cache
def start(name):
    """Returns family, draw, task, a batch, and parameters with biases that count."""
    family = build(name)
    draw = family.sample(jax.random.key(0))
    task = family.task(draw)
    params = jax.jit(task.init)(jax.random.key(1))
    params = jax.tree.map(lambda p: p + 0.1, params)
    batch = task.batch(family.data, jax.random.key(2), "train")
    return family, draw, task, batch, params


def norm(layer, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * layer["scale"][None] + layer["bias"][None]


def dense(layer, x):
    return x @ layer["kernel"] + layer.get("bias", np.zeros(1))[None]


def perceptron(layer, x):
    return dense(layer["project"], np.tanh(dense(layer["expand"], x)))


def attend(layer, x):
    """Returns what two heads of size 8 (2 at the base width) see of all tokens."""
    query, key, value = (dense(layer[n], x) for n in ("query", "key", "value"))
    heads = []
    for head in (slice(0, 8), slice(8, 16)):
        scores = np.exp(query[:, head] @ key[:, head].T * (2**0.5 / 8))
        heads.append(scores / scores.sum(1, keepdims=True) @ value[:, head])
    return dense(layer["out"], np.concatenate(heads, 1))


def vit_block(params, tokens):
    x, block = tokens + params["position"]["embedding"], params["block0"]
    x = x + attend(block["attend"], norm(block["attend_norm"], x))
    return x + perceptron(block["mlp"], norm(block["mlp_norm"], x))


def mixer_block(params, tokens):
    x, block = tokens, params["block0"]
    x = x + perceptron(block["tokens"], norm(block["tokens_norm"], x).T).T
    return x + perceptron(block["channels"], norm(block["channels_norm"], x))


@pytest.mark.parametrize(
    ("name", "block"), [("vit", vit_block), ("mixer", mixer_block)]
)
def test_logits_equal_the_network_by_hand(name, block):
    family, draw, _, batch, params = start(name)
    outputs = family.outputs(draw, params, batch)
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    mean, std = data.moments(data.load("digits"))
    for image, actual in zip(batch["input"], outputs["readout"], strict=True):
        image = (np.asarray(image, float)[..., 0] - mean) / std
        corners = [(0, 0), (0, 4), (4, 0), (4, 4)]
        squares = np.stack([image[i : i + 4, j : j + 4].ravel() for i, j in corners])
        x = norm(params["norm"], block(params, dense(params["embed"], squares)))
        product = x.mean(0) @ params["readout"]["kernel"] * (4 / 16)
        expected = product + params["readout"]["bias"]
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_without_positions_a_transformer_ignores_the_order_of_patches():
    family, draw, _, batch, params = start("vit")
    flipped = {"input": jnp.concatenate(jnp.split(batch["input"], 2, 1)[::-1], 1)}
    for scale in (0, 1):
        position = {"embedding": scale * params["position"]["embedding"]}
        found = [
            family.outputs(draw, params | {"position": position}, b)["readout"]
            for b in (batch, flipped)
        ]
        assert np.allclose(*found, atol=1e-5) is (scale == 0)


@every_model
def test_loss_at_init_is_log_ten_with_a_zero_readout_and_near_it_without(name):
    zero, other = (build(name, zero_readout=z, batch_size=64) for z in (True, False))

    def loss(family, key):
        task = family.task(family.sample(key))
        batch = task.batch(family.data, key, "train")
        return task.loss(task.init(key), None, batch)[0]

    keys = jax.random.split(jax.random.key(0), 8)
    ignorant, random = (
        jax.jit(jax.vmap(functools.partial(loss, f)))(keys) for f in (zero, other)
    )
    np.testing.assert_allclose(ignorant, np.log(10), rtol=1e-6)
    # Logits have variance 4/16 or less, and so add 1/8 nats at most, on average.
    assert abs(random.mean() - np.log(10)) < 0.2


@pytest.mark.parametrize(
    ("name", "more", "expected", "thousands"),
    [
        ("vit", dict(mlp_ratio=4), 2 * (12 * 64 + 10) * 64 + 33 * 64 + 10, 102),
        (
            "mixer",
            dict(token_hidden=32),
            2 * ((4 * 64 + 7) * 64 + 33 * 32 + 16) + 17 * 64 + 10,
            37,
        ),
    ],
)
def test_parameters_are_as_many_as_documented(name, more, expected, thousands):
    family = build(name, patch=2, width=64, depth=2, **more)
    count = sum(leaf.size for leaf in jax.tree.leaves(family.shapes))
    assert count == expected
    assert round(count / 1000) == thousands


def test_token_mixing_does_not_grow_with_width():
    family = build("mixer")
    now, base = (f["block0"] for f in (family.shapes, family.base_shapes))
    assert jax.tree.map(jnp.shape, now["tokens"]) == jax.tree.map(
        jnp.shape, base["tokens"]
    )
    assert now["channels"]["expand"]["kernel"].shape == (16, 32)
    assert base["channels"]["expand"]["kernel"].shape == (4, 8)


@every_model
def test_resolution_and_activations_change_what_is_computed(name):
    small = build(name, resolution=4, patch=2, activations=("relu", "gelu"))
    assert small.data["train"]["input"].shape[1:] == (4, 4, 1)
    task = small.task(small.sample(jax.random.key(0)))
    params, batch = task.init(jax.random.key(1)), task.batch
    batch = batch(small.data, jax.random.key(2), "train")
    losses = jax.jit(
        lambda i: small.task({"activation": i}).loss(params, None, batch)[0]
    )
    assert losses(0) != losses(1)
    assert losses._cache_size() == 1


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("vit", dict(patch=3), "patches must tile images, got size 3"),
        ("vit", dict(heads=3), "heads must divide"),
        ("vit", dict(heads=0), "heads must be at least 1"),
        ("vit", dict(width=0), "^width must be at least 1, got 0"),
        ("mixer", dict(base_width=0), "base_width must be at least 1, got 0"),
        ("vit", dict(dataset="wine"), "need images, got dataset='wine'"),
        ("mixer", dict(patch=0), "patch must be at least 1"),
        ("mixer", dict(token_hidden=0), "token_hidden must be at least 1"),
        ("mixer", dict(activations=()), "activations is empty"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_is_known(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        build(name, **wrong)
