"""Sets larger than memory: windows of them, equal in shape, one after another."""

import functools
import io
import pathlib

import jax
import numpy as np
import optax
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import demo
from evaluation import curves
from meta_train import run
from tasks import data, stored, suites
from tasks.base import SPLITS

SIZE = 4 * 4 * 3  # bytes of an image


class ManyImages(tfds.core.GeneratorBasedBuilder):
    """400 images with their number in two pixels; stored with a validation split."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "label": tfds.features.ClassLabel(num_classes=12),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 400),
            "validation": self._generate_examples(400, 430),
        }

    def _generate_examples(self, low, high):
        for index in range(low, high):
            pixels = np.full((4, 4, 3), index % 256, np.uint8)
            pixels[0, 0, 0] = index // 256
            file = io.BytesIO()
            PIL.Image.fromarray(pixels).save(file, "png")
            yield index, {"image": io.BytesIO(file.getvalue()), "label": index % 10}


class ManyLines(tfds.core.GeneratorBasedBuilder):
    """Stored as `lm1b`: lines of unequal lengths."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(300),
            "test": self._generate_examples(20),
        }

    def _generate_examples(self, count):
        for index in range(count):
            yield index, {"text": f"line {index} " + index % 7 * "x"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for builder in (ManyImages, ManyLines):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture
def small_memory(prepared, monkeypatch):
    """Makes sets of more than 1,000 bytes stream, 50 images at a time."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setattr(data, "IN_MEMORY", 1_000)
    monkeypatch.setattr(stored, "WINDOW", 50 * SIZE)
    data._load.cache_clear()
    yield
    data._load.cache_clear()


def numbers(split):
    pixels = np.asarray(split["input"]).astype(int)
    return 256 * pixels[:, 0, 0, 0] + pixels[:, 1, 1, 1]


def test_windows_hold_all_training_examples_once_and_then_again(small_memory):
    dataset = data.load("many_images")
    held = [numbers(dataset[split]) for split in SPLITS[1:]]
    assert [len(x) for x in held] == [40, 40, 30]
    seen = np.concatenate([numbers(dataset.window(i)) for i in range(32)])
    assert len(seen) == 5 * 320
    # 400 examples less two tenths, five times; the test split is the stored one.
    assert sorted(seen) == sorted(5 * [*set(range(400)) - {*held[0], *held[1]}])
    assert sorted(held[2]) == list(range(400, 430))
    np.testing.assert_array_equal(seen[:320], seen[320:640])
    assert (np.diff(seen[:50]) < 0).any()


def test_a_window_is_the_same_whenever_it_is_read(small_memory):
    dataset = data.load("many_images")
    third = numbers(dataset.window(3))
    dataset.window(0)
    np.testing.assert_array_equal(numbers(dataset.window(3)), third)
    assert not set(third) & set(numbers(dataset["train"]))


def test_labels_belong_to_their_images_and_classes_are_the_sets(small_memory):
    dataset = data.load("many_images", resolution=2)
    window = dataset.window(1)
    assert window["input"].shape == (50, 2, 2, 3)
    assert window["input"].dtype == np.uint8
    full = numbers(data.load("many_images").window(1))
    np.testing.assert_array_equal(window["input"][:, 1, 1, 0], full % 256)
    np.testing.assert_array_equal(window["label"], full % 10)
    # Two classes have no example: what is declared counts, not what was seen.
    assert data.classes(dataset) == 12


def test_windows_of_text_have_equal_shapes(small_memory):
    dataset = data.load("many_lines", context=16)
    shapes = {dataset.window(i)["input"].shape for i in range(8)}
    assert len(shapes) == 1
    text = np.asarray(dataset.window(2)["input"])[:, :-1].tobytes()
    assert b"\nline " in text
    assert text not in np.asarray(dataset["train"]["input"])[:, :-1].tobytes()


def test_a_set_that_fits_is_read_whole(small_memory, monkeypatch):
    monkeypatch.setattr(data, "IN_MEMORY", 430 * SIZE)
    dataset = data.load("many_images")
    assert type(dataset) is dict
    assert [len(dataset[split]["input"]) for split in SPLITS] == [320, 40, 40, 30]


@functools.cache
def softmax_regression(vary=()):
    return suites.build(
        "softmax_regression", dataset="many_images", batch_size=20, vary=dict(vary)
    )


@pytest.mark.parametrize("vary", [(), (("classes", (3, 10)), ("examples", (0.5, 1.0)))])
def test_evaluation_moves_through_windows_in_one_program(small_memory, vary):
    family = softmax_regression(vary)
    shapes = jax.tree.map(jax.numpy.shape, family.data)
    assert jax.tree.map(jax.numpy.shape, family.stream(10)) == shapes
    seen = []

    def stream(step):
        seen.append(numbers(family.stream(step)["train"]))
        return family.stream(step)

    watched = family._replace(stream=stream)
    track = curves.track(watched, valid_every=5)
    adam = lambda num_steps: optax.adam(1e-3)  # noqa: E731
    found = curves.run(curves.runner(track, adam), num_steps=20, seeds=(0, 1))
    # 20 examples a step, 50 a window: steps 0, 5, ... are in windows 0, 2, 4, 6 and 8.
    assert [tuple(x) for x in seen] == [
        tuple(numbers(data.load("many_images").window(n))) for n in (0, 2, 4, 6, 8)
    ]
    assert track.batches._cache_size() == track.look._cache_size() == 1
    assert found.finite.all() and found.train[0, :, -1].mean() < np.log(12)


def test_meta_training_refuses_what_streams(small_memory):
    config = demo.get_config("quick")
    config.family = {
        "name": "softmax_regression",
        "args": {"dataset": "many_images", "batch_size": 20, "vary": {}},
    }
    with pytest.raises(ValueError, match="larger than memory.*only evaluation streams"):
        run.build(config)
