"""Datasets: what is on disk is what is read, and errors say what to do."""

import functools
import hashlib
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from tasks import data, digits, prepare
from tasks.base import SPLITS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    digits.prepare(root)
    return root


@pytest.fixture
def root(prepared, tmp_path, monkeypatch):
    """A copy of the prepared digits, and no network."""
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    shutil.copytree(prepared, tmp_path / "sets")
    return tmp_path / "sets"


def refuse(*args):
    raise AssertionError("the network was asked")


def fingerprint(dataset):
    digest = hashlib.sha256()
    for split in SPLITS:
        for key in ("image", "label"):
            digest.update(np.asarray(dataset[split][key]).tobytes())
    return digest.hexdigest()


def test_digits_are_scikit_learns_images_in_four_disjoint_splits(root):
    dataset = data.load("digits")
    sizes = {split: len(arrays["label"]) for split, arrays in dataset.items()}
    assert sizes == dict(train=1197, inner_valid=200, outer_valid=200, test=200)
    pairs = [
        (*image.ravel(), label)
        for arrays in dataset.values()
        for image, label in zip(*map(np.asarray, arrays.values()), strict=True)
    ]
    images, labels = load_digits(return_X_y=True)
    # All of them, each as often as there: so no image is in two splits.
    assert sorted(pairs) == sorted(map(tuple, np.column_stack([images, labels])))


def test_arrays_are_on_the_device_in_small_types(root):
    arrays = data.load("digits")["test"]
    assert isinstance(arrays["image"], jax.Array)
    assert (arrays["image"].dtype, arrays["label"].dtype) == (np.uint8, np.int32)
    assert arrays["image"].shape == (200, 8, 8, 1)


def test_a_first_load_inside_jit_leaves_arrays_in_the_cache(root):
    sums = [jax.jit(lambda: data.load("digits")["test"]["image"].sum())()]
    sums += [jax.jit(lambda: data.load("digits")["test"]["image"].sum())()]
    assert sums[0] == sums[1] == data.load("digits")["test"]["image"].sum()


def test_every_split_holds_every_class(root):
    for arrays in data.load("digits").values():
        assert set(np.asarray(arrays["label"])) == set(range(10))


def test_preparing_again_gives_the_same_bytes(root, tmp_path, monkeypatch):
    first = fingerprint(data.load("digits"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "again"))
    assert fingerprint(data.load("digits")) == first
    assert first.startswith("fcc0a5c8903f928f")
    seed = json.loads((data.find("digits", root) / "metadata.json").read_text())
    assert seed == {"split_seed": digits.SPLIT_SEED}


def test_the_array_record_on_disk_is_what_is_read(root):
    """Two splits' files exchanged on disk are exchanged when loaded."""
    before = data.load("digits")
    data._load.cache_clear()
    files = {s: next(root.glob(f"digits/*/*-{s}.array_record*")) for s in SPLITS[1:]}
    spare = root / "spare"
    files["test"].rename(spare)
    files["inner_valid"].rename(files["test"])
    spare.rename(files["inner_valid"])
    after = data.load("digits")
    np.testing.assert_array_equal(
        after["test"]["image"], before["inner_valid"]["image"]
    )


def test_two_processes_prepare_at_once_without_tensorflow_or_network(tmp_path):
    code = (
        "import socket, sys; socket.socket.connect = None; from tasks import data;"
        "print(len(data.load('digits')['train']['label']), 'tensorflow' in sys.modules)"
    )
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    start = functools.partial(subprocess.Popen, env=environment, stdout=-1)
    runs = [start(command) for _ in range(2)]
    assert [run.communicate()[0] for run in runs] == [b"1197 False\n"] * 2


def test_a_preparation_killed_half_way_is_done_again(root):
    path = data.find("digits", root)
    path.rename(path.with_name("incomplete.ABCDEF_1.0.0"))
    next(path.parent.glob("incomplete*/*-test.array_record*")).unlink()
    assert len(data.load("digits")["test"]["label"]) == 200


@pytest.mark.parametrize("name", ["mnist", "mnits", "cifar10/none", "../etc", ""])
def test_a_missing_set_is_an_error_at_once(root, name):
    start = time.perf_counter()
    with pytest.raises(data.DatasetNotFound) as error:
        data.load(name)
    assert time.perf_counter() - start < 2
    assert isinstance(error.value, FileNotFoundError)
    assert str(root) in str(error.value)
    assert f"python -m tasks.prepare {name}" in str(error.value)


def test_a_misspelt_name_lists_near_matches(root):
    with pytest.raises(data.DatasetNotFound, match="mnist"):
        data.load("mnits")
    with pytest.raises(data.DatasetNotFound, match="Near matches: digits"):
        data.load("digit")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(next(path.glob("*-test.array*")), 3000),
        lambda path: next(path.glob("*-train.array*")).unlink(),
        lambda path: flip(next(path.glob("*-train.array*"))),
        lambda path: (path / "dataset_info.json").write_text("{"),
        lambda path: (path / "features.json").unlink(),
        lambda path: [file.unlink() for file in path.iterdir()],
    ],
    ids=["truncated", "missing", "flipped", "info", "features", "empty"],
)
def test_a_damaged_set_is_an_error_that_names_it_and_the_cure(root, damage):
    path = data.find("digits", root)
    damage(path)
    with pytest.raises(data.DatasetDamaged) as error:
        data.load("digits")
    assert str(path) in str(error.value)
    assert "python -m tasks.prepare digits" in str(error.value)


def flip(file):
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 255
    file.write_bytes(content)


def test_a_set_stored_as_tfrecord_is_an_error_that_names_the_cure(root):
    path = root / "mnist" / "3.0.1"
    path.mkdir(parents=True)
    (path / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    with pytest.raises(data.DatasetNotFound, match="tasks.prepare mnist"):
        data.load("mnist")


def test_the_newest_version_is_found(root):
    for version in ("1.10.0", "1.9.0", "1.11.0.incomplete"):
        (root / "mnist" / version).mkdir(parents=True)
    assert data.find("mnist", root).name == "1.10.0"


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Stored as most TFDS image sets are: PNGs, in the splits "train" and "test"."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(4, 4, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(40),
            "test": self._generate_examples(5),
        }

    def _generate_examples(self, count):
        for index in range(count):
            file = io.BytesIO()
            pixels = np.full((4, 4, 3), index, np.uint8)
            PIL.Image.fromarray(pixels).save(file, "png")
            yield index, {"image": io.BytesIO(file.getvalue()), "label": index % 10}


def test_other_sets_on_disk_are_read_and_split_in_four(root):
    TinyImages(data_dir=root, file_format="array_record").download_and_prepare()
    splits = data.load("tiny_images")
    assert [len(splits[split]["label"]) for split in SPLITS] == [32, 4, 4, 5]
    for arrays in splits.values():
        pixel = np.asarray(arrays["image"])[:, 3, 3, 2]
        np.testing.assert_array_equal(pixel % 10, arrays["label"])
    shown = [int(x) for s in SPLITS[:3] for x in splits[s]["image"][:, 0, 0, 0]]
    assert sorted(shown) == list(range(40))


def test_mocked_tfds_sets_are_read_by_the_same_code(tmp_path):
    class Source(list):
        def __getitems__(self, keys):
            return [self[key] for key in keys]

    def examples(builder, split, **kwargs):
        shape = builder.info.features["image"].shape
        return Source([{"image": np.ones(shape, np.uint8), "label": 3}] * 20)

    with tfds.testing.mock_data(as_data_source_fn=examples):
        stored = data.read(tfds.builder("mnist", data_dir=tmp_path))
    assert stored["train"]["image"].shape == (20, 28, 28, 1)
    assert stored["test"]["label"].tolist() == [3] * 20


def test_a_set_without_a_test_split_gives_up_a_tenth_for_it():
    stored = {"train": {"image": np.arange(100), "label": np.arange(100)}}
    splits = data.four_splits(stored)
    assert [len(splits[split]["label"]) for split in SPLITS] == [70, 10, 10, 10]
    labels = np.concatenate([splits[split]["label"] for split in SPLITS])
    np.testing.assert_array_equal(np.sort(labels), np.arange(100))


def test_the_command_prepares_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare.main(["digits"])
    assert capsys.readouterr().out == f"digits: {tmp_path}/digits/1.0.0\n"


def test_moments_are_those_of_the_training_pixels(root):
    dataset = data.load("digits")
    mean, std = data.moments(dataset)
    pixels = np.asarray(dataset["train"]["image"], np.float64)
    scaled = (pixels - mean) / std
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-12)
