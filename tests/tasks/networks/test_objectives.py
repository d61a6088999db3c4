"""Cross entropies and squared errors, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from families import SMALL

from tasks import base, families
from tasks.networks import objectives


def test_regression_loses_half_the_squared_error_of_standardised_labels():
    own = families.build("mlp", **SMALL["mlp"] | {"dataset": "diabetes", "vary": {}})
    task = own.task(own.sample(jax.random.key(0)))
    params = task.init(jax.random.key(0))  # its readout, and so its output, is zero
    label = np.asarray(own.data["train"]["label"], np.float64)
    loss, aux = base.loss(task, params, jax.random.key(0), own.data["train"], ())
    np.testing.assert_allclose(loss, 0.5, rtol=1e-5)
    moved = params | {"readout": params["readout"] | {"bias": jnp.ones(1)}}
    expected = (((label - label.mean()) / label.std() - 1) ** 2).mean() / 2
    loss, _ = base.loss(task, moved, jax.random.key(0), own.data["train"], ())
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert "correct" not in aux


def test_softmax_is_the_cross_entropy_in_nats_and_a_hit_the_greatest_logit():
    logits = np.array([[0.0, 1.0, 3.0], [2.0, 0.0, 1.0]], np.float32)
    batch = {"label": jnp.array([2, 1])}
    softmax = objectives.softmax(3)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(shares[[0, 1], [2, 1]])
    np.testing.assert_allclose(softmax.losses(jnp.array(logits), batch), expected, 1e-6)
    assert softmax.aux(jnp.array(logits), batch)["hits"].tolist() == [True, False]


def test_who_knows_nothing_loses_the_logarithm_of_the_classes_of_the_draw():
    softmax, member = objectives.softmax(8), jnp.arange(8) < 3
    assert softmax.initial({}) == np.log(8)
    np.testing.assert_allclose(softmax.initial({"member": member}), np.log(3), 1e-6)


def test_a_dataset_asks_for_its_classes_or_for_one_number():
    def stored(label):
        return {x: {"input": jnp.zeros((4, 1)), "label": label} for x in base.SPLITS}

    numbers, outputs = objectives.for_dataset(stored(jnp.array([1.0, 2.0, 3.0, 6.0])))
    assert (numbers.classes, outputs) == (0, 1)
    losses = numbers.losses(jnp.ones((1, 1)), {"label": jnp.array([3.0])})
    np.testing.assert_allclose(losses, 0.5, 1e-6)  # the label is the mean
    classes, outputs = objectives.for_dataset(stored(jnp.array([0, 2, 1, 2])))
    assert classes.classes == outputs == 3
