"""The mlp family: draws, initial scale, activations and its network by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data, families
from tasks.families import mlp

NETWORK = dict(
    dataset="digits",
    resolution=None,
    width=48,
    base_width=16,
    depth=3,
    parametrization="mup",
    zero_readout=False,
)
MANY = dict(activations=("relu", "tanh", "gelu"))
TRAINING = dict(batch_size=64, vary={"init_scale": (0.5, 2.0)})
FUNCTIONS = [jax.nn.relu, np.tanh, jax.nn.gelu]


@pytest.fixture(scope="module")
def family():
    return mlp.mlp(**NETWORK, **MANY, **TRAINING)


@pytest.fixture(scope="module")
def start(family):
    """Returns draw -> params, compiled once."""
    return jax.jit(lambda draw: family.task(draw).init(jax.random.key(0)))


def draw(activation, scale=1.0):
    return {"activation": jnp.int32(activation), "init_scale": jnp.float32(scale)}


def by_hand(params, images, function):
    """Returns the pre-activations and logits of the network written out."""
    mean, std = data.moments(data.load("digits"))
    x = (np.asarray(images, np.float32).reshape(len(images), -1) - mean) / std
    outputs = {}
    for name in ("hidden0", "hidden1", "hidden2"):
        outputs[name] = x @ params[name]["kernel"] + params[name]["bias"][None]
        x = function(outputs[name])
    product = x @ params["readout"]["kernel"]
    return outputs | {"readout": product * (16 / 48) + params["readout"]["bias"][None]}


@pytest.mark.parametrize("index", range(3))
def test_every_layer_equals_the_network_by_hand(family, start, index):
    params = start(draw(index))
    params = jax.tree.map(lambda p: p + 0.1, params)  # so that biases count
    images = family.data["test"]["input"][:5]
    actual = family.outputs(draw(index), params, {"input": images})
    expected = by_hand(params, images, FUNCTIONS[index])
    assert list(actual) == list(expected)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=2e-4, atol=2e-4)


def test_logits_of_the_loss_are_those_of_the_readout(family, start):
    task = family.task(draw(1))
    params = start(draw(1))
    batch = task.batch(family.data, jax.random.key(1), "train")
    loss, aux = task.loss(params, None, batch)
    expected = by_hand(params, batch["input"], np.tanh)["readout"]
    np.testing.assert_allclose(aux["logits"], expected, rtol=1e-4, atol=1e-4)
    shares = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    picked = shares[np.arange(64), np.asarray(batch["label"])]
    np.testing.assert_allclose(loss, -np.log(picked).mean(), rtol=1e-4)


def test_loss_at_init_is_near_log_ten(family):
    def loss(key):
        task = family.task(draw(0))
        batch = task.batch(family.data, key, "train")
        return task.loss(task.init(key), None, batch)[0]

    losses = jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(0), 20))
    assert abs(losses.mean() - np.log(10)) < 0.1


def test_zero_readout_starts_at_log_ten_exactly():
    family = mlp.mlp(**(NETWORK | dict(zero_readout=True)), **MANY, **TRAINING)
    task = family.task(draw(0))
    batch = task.batch(family.data, jax.random.key(1), "train")
    loss, _ = task.loss(task.init(jax.random.key(0)), None, batch)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-6)


def test_one_program_holds_every_activation_and_scale(family, start):
    activated = jax.jit(
        lambda d, p: family.task(d).loss(
            p, None, family.task(d).batch(family.data, jax.random.key(1), "train")
        )[0]
    )
    params = start(draw(0))
    losses = [float(activated(draw(index), params)) for index in range(3)]
    assert len(set(losses)) == 3
    ratio = start(draw(0, 2.0))["hidden1"]["kernel"] / params["hidden1"]["kernel"]
    np.testing.assert_allclose(ratio, 2.0, rtol=1e-6)
    assert start._cache_size() == activated._cache_size() == 1


def test_draws_cover_activations_and_scales(family):
    draws = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 900))
    counts = np.bincount(draws["activation"], minlength=3)
    assert counts.min() > 240
    scale = draws["init_scale"]
    assert 0.5 <= scale.min() < 0.51 and 1.98 < scale.max() <= 2.0
    np.testing.assert_allclose(np.median(scale), 1.0, rtol=0.1)  # log-uniform


# 65 * 10, and 64 * 32 + 32^2 + 2 * 32 + 33 * 10.
@pytest.mark.parametrize(("depth", "expected"), [(0, 650), (2, 3466)])
def test_there_are_as_many_parameters_as_documented(depth, expected):
    sizes = dict(width=32, depth=depth, batch_size=8, activations=("relu",), vary={})
    shapes = mlp.mlp(**NETWORK | sizes).shapes
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def test_a_resolution_makes_images_smaller_and_names_differ():
    regression = dict(dataset="digits", batch_size=8, vary={})
    for size, name in ((None, "digits"), (4, "digits@4")):
        family = mlp.softmax_regression(**regression, resolution=size)
        assert family.name == f"softmax-regression-{name}-batch8"
        pixels = (size or 8) ** 2
        assert family.shapes["readout"]["kernel"].shape == (pixels, 10)
    assert mlp.softmax_regression(**regression, resolution=None).name.endswith(
        "digits-batch8"
    )


def test_initial_scale_leaves_readout_and_biases(start):
    one, two = (start(draw(0, scale)) for scale in (1.0, 0.5))
    np.testing.assert_array_equal(one["readout"]["kernel"], two["readout"]["kernel"])
    assert all((leaf["bias"] == 0).all() for leaf in two.values())


def test_a_single_activation_and_scale_make_a_fixed_task():
    family = mlp.mlp(**NETWORK, activations=("tanh",), batch_size=8, vary={})
    draws = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 9))
    assert draws.keys() == {"activation"} and (draws["activation"] == 0).all()


def test_base_shapes_differ_in_width_alone(family):
    shapes = jax.tree.map(
        lambda a, b: (a.shape, b.shape), family.shapes, family.base_shapes
    )
    assert shapes["hidden0"]["kernel"] == ((64, 48), (64, 16))
    assert shapes["hidden1"]["kernel"] == ((48, 48), (16, 16))
    assert shapes["readout"]["kernel"] == ((48, 10), (16, 10))
    assert shapes["readout"]["bias"] == ((10,), (10,))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(activations=("rleu",)), "Did you mean 'relu'"),
        (dict(activations=()), "activations is empty"),
        (dict(parametrization="mupp"), "Did you mean 'mup'"),
        (dict(depth=-1), "depth must be at least 0, got -1"),
        (dict(width=-3), "width must be at least 1, got -3"),
        (dict(base_width=0), "base_width must be at least 1, got 0"),
        (dict(batch_size=0), "batch_size must be at least 1, got 0"),
        (dict(vary={"classes": (2.5, 4)}), r"must be whole, got \(2.5, 4\)"),
        (dict(vary={"classes": (1, 4)}), "must be within"),
        (dict(dataset="diabetes", vary={"classes": (2, 3)}), "labels that are classes"),
        (dict(vary={"init_scales": (1.0, 1.0)}), "Did you mean 'init_scale'"),
        (dict(vary={"init_scale": (2.0, 1.0)}), "low <= high"),
        (dict(vary={"init_scale": (0.0, 1.0)}), "must be within"),
        (dict(dataset="digit"), "Near matches: digits"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_is_known(wrong, message):
    settings = {**NETWORK, **MANY, **TRAINING, **wrong}
    with pytest.raises((ValueError, data.DatasetNotFound), match=message):
        families.build("mlp", **settings)
