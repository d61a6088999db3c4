"""Stored sets as arrays: which can be, at what resolution, and in windows."""

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
from evaluation.runs import curves
from meta_train import build
from tasks import data, families
from tasks.base import SPLITS
from tasks.data import stored

SIZE = 4 * 4 * 3  # bytes of an image


class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Of the features and examples that are its attributes."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.EXAMPLES}

    def _generate_examples(self, split):
        yield from enumerate(self.EXAMPLES[split])


def write(root, features, kind="Made", **examples):
    """Writes a set of these features and examples in each split."""
    attributes = {"FEATURES": features, "EXAMPLES": examples}
    made = type(kind, (Made,), attributes, skip_registration=True)
    made(data_dir=root, file_format="array_record").download_and_prepare()


def images(low, high):
    """Yields images of 4x4 pixels with their number in two of these."""
    for index in range(low, high):
        pixels = np.full((4, 4, 3), index % 256, np.uint8)
        pixels[0, 0, 0] = index // 256
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, "png")
        yield {"image": file.getvalue(), "label": index % 10}


PIXELS = tfds.features.Tensor(shape=(2, 3, 1), dtype=np.uint8)
LABEL = tfds.features.ClassLabel(num_classes=12)
PNG = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": LABEL}
TEXT = {"text": tfds.features.Text()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    train, valid = images(0, 400), images(400, 430)
    write(root, PNG, "ManyImages", train=train, validation=valid)
    lines = [{"text": f"line {i} " + i % 7 * "x"} for i in range(300)]
    write(root, TEXT, "ManyLines", train=lines, test=lines[:20])
    return root


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


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
    return families.build(
        "softmax_regression",
        dataset="many_images",
        resolution=None,
        batch_size=20,
        vary=dict(vary),
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
        "args": {
            "dataset": "many_images",
            "resolution": None,
            "batch_size": 20,
            "vary": {},
        },
    }
    with pytest.raises(ValueError, match="larger than memory.*only evaluation streams"):
        build.build(config)


def refuse(*args):
    raise AssertionError("examples were read")


ONE = {"image": np.zeros((2, 3, 1), np.uint8), "label": 0}
SMALL = {"image": PIXELS, "label": LABEL}
UNFIT = {
    "no train": (SMALL, {"test": [ONE]}, "must have a split 'train', got test"),
    "table": (
        {
            "features": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "label": LABEL,
        },
        {"train": [{"features": [0, 1], "label": 1}]},
        "neither of labelled images nor of text; it has features, label",
    ),
    "sizes": (
        {"image": tfds.features.Image(shape=(None, None, 3)), "label": LABEL},
        {"train": [*images(0, 2)]},
        "images of many sizes",
    ),
    "floats": (
        {"image": tfds.features.Scalar(dtype=np.float32), "label": LABEL},
        {"train": [{"image": 0.5, "label": 1}]},
        "images of uint8",
    ),
    "few": (
        SMALL,
        {"train": [ONE] * 9, "test": [ONE]},
        "at least 10 examples in 'train'.* inner_valid, outer_valid .*got 9",
    ),
}


@pytest.mark.parametrize("features,examples,message", UNFIT.values(), ids=UNFIT)
def test_a_whole_set_that_cannot_serve_is_no_damage(
    root, monkeypatch, features, examples, message
):
    write(root, features, **examples)
    monkeypatch.setattr(stored, "sources", refuse)  # before anything is read
    with pytest.raises(ValueError, match=message) as error:
        data.load("made")
    assert error.type is ValueError


def test_text_is_split_in_four_by_rows_and_each_must_have_one(root):
    text = "".join(f"{i:03d}" for i in range(100))
    write(root, TEXT, train=[{"text": text}])
    splits = data.load("made", context=3)
    assert [len(splits[split]["input"]) for split in SPLITS] == [70, 10, 10, 10]
    rows = {bytes(x[:3]) for s in SPLITS for x in np.asarray(splits[s]["input"])}
    assert rows == {f"{i:03d}".encode() for i in range(100)}
    assert data.classes(splits) == 256
    assert len(data.load("made", context=30)["test"]["input"]) == 1
    with pytest.raises(ValueError, match="got context=31 and none in inner_v") as error:
        data.load("made", context=31)
    assert error.type is ValueError


@pytest.mark.parametrize("count, context", [(9, 8), (10, 200)])
def test_streamed_text_must_fill_every_split(root, monkeypatch, count, context):
    monkeypatch.setattr(data, "IN_MEMORY", 1_000)
    monkeypatch.setattr(stored, "WINDOW", 10_000)
    write(root, TEXT, train=[{"text": 150 * "x"}] * count)
    with pytest.raises(
        ValueError, match="at least 10 examples|got context=200"
    ) as error:
        data.load("made", context=context)
    assert error.type is ValueError


def test_images_that_are_not_square_are_averaged_to_squares(root):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    example = {"image": pixels, "label": 0}
    write(root, SMALL, train=[example] * 10)
    found = data.load("made", resolution=2)["test"]["input"][0, :, :, 0]
    # Of each row a, b, c: (2 a + b) / 3 and (b + 2 c) / 3.
    np.testing.assert_array_equal(found, np.round([[1 / 3, 5 / 3], [10 / 3, 14 / 3]]))


def test_classes_are_counted_in_all_splits_or_declared(root, monkeypatch):
    features = {"image": PIXELS, "label": tfds.features.Scalar(dtype=np.int64)}
    write(root, features, train=[ONE] * 20, test=[ONE, {**ONE, "label": 4}])
    assert data.classes(data.load("made")) == 5
    data._load.cache_clear()
    monkeypatch.setattr(data, "IN_MEMORY", 10)
    monkeypatch.setattr(stored, "WINDOW", 60)
    with pytest.raises(ValueError, match="must say how many classes it has"):
        data.load("made")


def averaged(images, resolution):
    """Returns means over areas, by blocks of pixels repeated until blocks fit."""
    n, height, width, channels = images.shape
    fine = images.repeat(resolution, 1).repeat(resolution, 2)
    shape = (n, resolution, height, resolution, width, channels)
    return np.round(fine.reshape(shape).mean((2, 4)))


@pytest.mark.parametrize("resolution", [1, 3, 4, 7, 12])
@pytest.mark.parametrize("shape", [(5, 12, 12, 1), (3, 12, 20, 3), (2, 16, 12, 2)])
def test_a_lower_resolution_is_the_mean_over_areas(shape, resolution, monkeypatch):
    monkeypatch.setattr(stored, "AT_ONCE", 600)
    images = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    columns = {"input": images, "label": np.zeros(len(images))}
    actual = stored.shaped(columns, resolution=resolution, context=None)["input"]
    np.testing.assert_array_equal(actual, averaged(images, resolution))
    assert actual.dtype == np.uint8
