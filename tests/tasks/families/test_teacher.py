"""The teacher-student family: labels, splits, noise, and its network by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families import teacher

ARGS = dict(
    inputs=6,
    outputs=2,
    teacher_width=8,
    teacher_depth=2,
    width=12,
    base_width=4,
    depth=2,
    batch_size=16,
    activations=("relu", "tanh"),
    noise=(0.1, 0.5),
    zero_readout=False,
)
FUNCTIONS = [jax.nn.relu, np.tanh]


def key(seed):
    return jax.random.key(seed)


@functools.cache
def build(**changed):
    return teacher.teacher_student(**(ARGS | changed))


def draw_of(family, seed=0):
    return jax.jit(family.sample)(key(seed))


def by_hand(params, x, function, multiplier):
    """Returns what each layer puts out, the network written out."""
    outputs, depth = {}, len(params) - 1
    for name in [f"hidden{i}" for i in range(depth)]:
        outputs[name] = x @ params[name]["kernel"] + params[name]["bias"][None]
        x = function(outputs[name])
    y = multiplier * (x @ params["readout"]["kernel"])
    return outputs | {"readout": y + params["readout"]["bias"][None]}


@pytest.mark.parametrize("index", range(2))
def test_every_layer_of_the_student_equals_the_network_by_hand(index):
    family = build()
    draw = draw_of(family) | {"activation": jnp.int32(index)}
    task = family.task(draw)
    params = jax.tree.map(lambda p: p + 0.1, task.init(key(1)))  # so that biases count
    batch = task.batch((), key(2), "train")
    actual = family.outputs(draw, params, batch)
    expected = by_hand(params, batch["input"], FUNCTIONS[index], 4 / 12)
    assert list(actual) == list(expected)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-5)
    error = np.asarray(expected["readout"] - batch["label"])
    loss, _ = task.loss(params, None, batch)
    np.testing.assert_allclose(loss, (error**2).mean() / 2, rtol=1e-5)


def test_labels_are_the_teachers_outputs_standardised():
    draw = draw_of(build())
    batch = build().task(draw).batch((), key(1), "test")
    function = FUNCTIONS[int(draw["activation"])]
    outputs = by_hand(draw["teacher"], batch["input"], function, 1.0)["readout"]
    expected = (outputs - draw["mean"][None]) / draw["std"][None]
    np.testing.assert_allclose(batch["label"], expected, rtol=1e-4, atol=1e-5)
    assert draw["teacher"]["hidden1"]["kernel"].shape == (8, 8)


def test_over_teachers_labels_have_mean_zero_and_variance_one():
    family = build(batch_size=512, noise=(0.0, 0.0))

    def labels(key):
        return family.task(family.sample(key)).batch((), key, "train")["label"]

    found = jax.jit(jax.vmap(labels))(jax.random.split(key(0), 50))
    assert abs(found.mean()) < 0.03 and abs(found.std() - 1) < 0.03
    assert (abs(found.std(1) - 1) < 0.4).all()  # each teacher's, measured on 256


def test_only_training_labels_are_noisy():
    noisy, clean = (build(batch_size=2000, noise=(x, x)) for x in (0.3, 0.0))
    draw = draw_of(noisy)
    for split in SPLITS:
        pair = [
            family.task(draw | {"noise": jnp.float32(x)}).batch((), key(1), split)
            for family, x in ((noisy, 0.3), (clean, 0.0))
        ]
        np.testing.assert_array_equal(pair[0]["input"], pair[1]["input"])
        noise = pair[0]["label"] - pair[1]["label"]
        expected = 0.3 if split == "train" else 0.0
        np.testing.assert_allclose(noise.std(), expected, rtol=0.05)


def test_splits_of_one_key_differ_and_inputs_are_normal():
    task = build(batch_size=2000).task(draw_of(build()))
    inputs = [task.batch((), key(1), split)["input"] for split in SPLITS]
    joint = np.corrcoef(np.stack([x.ravel() for x in inputs]))
    np.testing.assert_allclose(joint, np.eye(4), atol=0.04)
    assert abs(inputs[0].std() - 1) < 0.02


def test_loss_at_init_is_one_half_and_the_noise_adds_its_own():
    family = build(batch_size=256, zero_readout=True)

    def run(key):
        draw = family.sample(key)
        task = family.task(draw)
        loss, _ = task.loss(task.init(key), None, task.batch((), key, "train"))
        return loss, draw["noise"]

    loss, noise = jax.jit(jax.vmap(run))(jax.random.split(key(0), 100))
    np.testing.assert_allclose((loss - noise**2 / 2).mean(), 0.5, atol=0.02)
    assert 0.1 <= noise.min() < 0.15 and 0.45 < noise.max() <= 0.5


def test_a_student_that_is_the_teacher_has_the_loss_of_the_noise():
    same = dict(width=8, base_width=8, noise=(0.2, 0.2), batch_size=2000)
    family = build(**same)
    draw = draw_of(family)
    params = jax.tree.map(jnp.copy, draw["teacher"])
    std = draw["std"]
    params["readout"]["kernel"] /= std[None]
    params["readout"]["bias"] = (params["readout"]["bias"] - draw["mean"]) / std
    task = family.task(draw)
    losses = [task.loss(params, None, task.batch((), key(1), s))[0] for s in SPLITS]
    np.testing.assert_allclose(losses, [0.2**2 / 2, 0, 0, 0], rtol=0.1, atol=1e-9)


def test_base_shapes_differ_in_width_alone():
    pairs = jax.tree.map(
        lambda a, b: (a.shape, b.shape), build().shapes, build().base_shapes
    )
    assert pairs["hidden0"]["kernel"] == ((6, 12), (6, 4))
    assert pairs["hidden1"]["kernel"] == ((12, 12), (4, 4))
    assert pairs["readout"]["kernel"] == ((12, 2), (4, 2))


def test_there_are_as_many_weights_as_the_docstring_says():
    family = build(inputs=8, outputs=1, width=32)
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(family.shapes)) == 1377


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(activations=("rleu",)), "Did you mean 'relu'"),
        (dict(noise=(0.2, 0.1)), "low <= high"),
        (dict(teacher_depth=0), "teacher_depth must be at least 1, got 0"),
        (dict(inputs=0), "inputs must be at least 1, got 0"),
        (dict(width=-3), "^width must be at least 1, got -3"),
    ],
)
def test_wrong_settings_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(**wrong)
