"""The family of images by coordinates: pixels of splits, features, networks."""

import jax
import numpy as np
import pytest

from tasks import data, entries, families
from tasks.base import SPLITS
from tasks.families.coordinates import places

ARGS = entries.COORDINATES | dict(
    frequencies=3, width=6, base_width=3, zero_readout=False
)


def key(seed):
    return jax.random.key(seed)


def build(**changed):
    return families.build("coordinates", **ARGS | changed)


def drawn(family, split="train", seed=0):
    draw = family.sample(key(seed))
    return draw, family.task(draw).batch(family.data, key(1), split)


def test_every_pixel_is_of_one_split():
    every = [tuple(x) for at in places(16, 16).values() for x in at]
    assert len(every) == len(set(every)) == 16 * 16
    assert [len(at) for at in places(16, 16).values()] == [128, 32, 32, 64]


def test_batches_are_standardised_colours_at_fourier_features_of_places():
    family, at = build(), places(16, 16)
    images = np.asarray(data.load("patches16")["train"]["input"], np.float64)
    for split in SPLITS:
        draw, batch = drawn(family, split)
        image = images[draw["image"]]
        trained = image[tuple(at["train"].T)]
        for n, (row, column) in enumerate(at[split]):
            where = np.array([row - 7.5, column - 7.5]) / 8
            angles = 2 * np.pi * where @ np.asarray(draw["frequencies"], np.float64)
            x = [*np.sin(angles), *np.cos(angles)]
            np.testing.assert_allclose(batch["input"][n], x, atol=1e-4)
            y = (image[row, column] - trained.mean()) / trained.std()
            np.testing.assert_allclose(batch["label"][n], y, atol=1e-4)


def test_batches_are_the_same_for_every_key_and_draws_of_other_images():
    family = build()
    draw = family.sample(key(0))
    task = family.task(draw)
    one, other = (task.batch(family.data, key(n), "train") for n in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert len({int(family.sample(key(n))["image"]) for n in range(9)}) > 7


def test_losses_are_those_of_the_network_by_hand():
    family = build()
    draw, batch = drawn(family)
    task = family.task(draw)
    params = jax.tree.map(lambda p: p + 0.1, task.init(key(2)))
    x = np.asarray(batch["input"])
    for name in ("hidden0", "hidden1"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"][None], 0)
    y = x @ params["readout"]["kernel"] * (3 / 6) + params["readout"]["bias"][None]
    loss, _ = task.loss(params, None, batch)
    expected = np.square(y - np.asarray(batch["label"])).mean() / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(dataset="digits"), r"need images \[n, height, width, 3\]"),
        (dict(scale=0.0), "scale must be above 0"),
        (dict(frequencies=0), "frequencies must be at least 1"),
        (dict(depth=0), "depth must be at least 1"),
        (dict(activations=("sine",)), "sine"),
    ],
)
def test_impossible_images_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(**wrong)
