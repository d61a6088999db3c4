"""Embedded datasets: what is on disk is what is read, and errors say what to do."""

import functools
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import sysconfig
import time

import jax
import numpy as np
import pytest
from sklearn import datasets

from tasks import data
from tasks.base import SPLITS
from tasks.data import disk, embedded


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    embedded.prepare("digits", root)
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
        for key in ("input", "label"):
            digest.update(np.asarray(dataset[split][key]).tobytes())
    return digest.hexdigest()


def pairs(dataset):
    """Returns the bytes and the label of each example of all splits, in order."""
    return sorted(
        (bytes(image), label)
        for arrays in dataset.values()
        for image, label in zip(*map(np.asarray, arrays.values()), strict=True)
    )


def test_digits_are_in_four_splits_of_known_sizes(root):
    sizes = {
        split: len(arrays["label"]) for split, arrays in data.load("digits").items()
    }
    assert sizes == dict(train=1197, inner_valid=200, outer_valid=200, test=200)


def test_arrays_are_on_the_device_in_small_types(root):
    arrays = data.load("digits")["test"]
    assert isinstance(arrays["input"], jax.Array)
    assert (arrays["input"].dtype, arrays["label"].dtype) == (np.uint8, np.int32)
    assert arrays["input"].shape == (200, 8, 8, 1)


def test_a_first_load_inside_jit_leaves_arrays_in_the_cache(root):
    sums = [jax.jit(lambda: data.load("digits")["test"]["input"].sum())()]
    sums += [jax.jit(lambda: data.load("digits")["test"]["input"].sum())()]
    assert sums[0] == sums[1] == data.load("digits")["test"]["input"].sum()


def test_every_split_holds_every_class(root):
    for arrays in data.load("digits").values():
        assert set(np.asarray(arrays["label"])) == set(range(10))


def test_preparing_again_gives_the_same_arrays(root, tmp_path, monkeypatch):
    first = fingerprint(data.load("digits"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "again"))
    assert fingerprint(data.load("digits")) == first
    assert first.startswith("fcc0a5c8903f928f")


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
        after["test"]["input"], before["inner_valid"]["input"]
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
    path = disk.find("digits", root)
    path.rename(path.with_name("incomplete.ABCDEF_1.0.0"))
    next(path.parent.glob("incomplete*/*-test.array_record*")).unlink()
    assert len(data.load("digits")["test"]["label"]) == 200


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(next(path.glob("*-test.array*")), 3000),
        lambda path: next(path.glob("*-train.array*")).unlink(),
        lambda path: flip(next(path.glob("*-train.array*"))),
        lambda path: (path / "dataset_info.json").write_text("{"),
        lambda path: (path / "dataset_info.json").write_text("null"),
        lambda path: (path / "features.json").unlink(),
        lambda path: [file.unlink() for file in path.iterdir()],
        lambda path: (path / "metadata.json").write_text('{"split_seed": 0}'),
        lambda path: (path / "metadata.json").write_text('{"sha256": "8f26b2bd"}'),
    ],
    ids="truncated missing flipped info null features empty unhashed other".split(),
)
def test_a_damaged_set_is_an_error_that_names_it_and_the_cure(root, damage):
    path, start = disk.find("digits", root), time.process_time()
    damage(path)
    with pytest.raises(data.DatasetDamaged) as error:
        data.load("digits")
    assert time.process_time() - start < 2  # TFDS was imported before
    assert str(path) in str(error.value)
    assert "python -m tasks.data.prepare digits" in str(error.value)


def flip(file):
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 255
    file.write_bytes(content)


def test_of_embedded_sets_only_the_own_version_is_read(root):
    whole = fingerprint(data.load("digits"))
    data._load.cache_clear()
    disk.find("digits", root).rename(root / "digits" / "1.0.1")
    flip(next(root.glob("digits/1.0.1/*-train.array*")))
    assert fingerprint(data.load("digits")) == whole
    assert (root / "digits" / "1.0.0").exists()


# Results that are recorded rest on these bytes: a change of them takes a new version.
SETS = {  # sha256, shape of an input, classes
    "digits": ("8f26b2bd9d135c25", (8, 8, 1), 10),
    "patches8": ("dd2b78c6bce2481f", (8, 8, 3), 2),
    "patches16": ("d8a301c1100bb721", (16, 16, 3), 2),
    "breast_cancer": ("bace63861ccb9854", (30,), 2),
    "wine": ("b7c105d24d276e44", (13,), 3),
    "iris": ("e48f2c5b3c087df0", (4,), 3),
    "diabetes": ("7898ff1abccc0584", (10,), 0),
}


@pytest.mark.parametrize("name", SETS)
def test_the_recorded_sha256_is_of_scikit_learns_arrays(root, name):
    inputs, _ = originals(name)
    actual = hashlib.sha256(np.asarray(inputs).tobytes()).hexdigest()
    assert data.digest(name) == embedded.SETS[name].SHA256 == actual
    assert actual.startswith(SETS[name][0])
    seed = json.loads((disk.find(name, root) / "metadata.json").read_text())
    assert seed == {"split_seed": embedded.SPLIT_SEED, "sha256": actual}


def test_other_bytes_of_scikit_learn_are_not_written(root, monkeypatch):
    monkeypatch.setattr(embedded.Wine, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="'wine' must have sha256 000.*b7c105d2"):
        data.load("wine")
    assert disk.find("wine", root) is None


def originals(name):
    """Returns inputs and labels of scikit-learn, cut and scaled by loops."""
    if name.startswith("patches"):
        size = int(name.removeprefix("patches"))
        found = [
            (image[i : i + size, j : j + size], label)
            for label, image in enumerate(datasets.load_sample_images().images)
            for i in range(0, image.shape[0] - size + 1, size)
            for j in range(0, image.shape[1] - size + 1, size)
        ]
        return [patch for patch, _ in found], [label for _, label in found]
    columns, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "digits":
        return columns.astype(np.uint8), labels
    scaled = [255 * (x - x.min()) / (x.max() - x.min()) for x in columns.T]
    return np.ascontiguousarray(np.round(scaled).T), labels


@pytest.mark.parametrize("name", SETS)
def test_inputs_and_labels_are_scikit_learns_each_in_one_split(root, name):
    dataset, (inputs, labels) = data.load(name), originals(name)
    expected = [bytes(np.asarray(x, np.uint8)) for x in inputs]
    # All of them, each as often as there: so none is in two splits.
    assert pairs(dataset) == sorted(zip(expected, labels, strict=True))
    kinds = {(x["input"].shape[1:], str(x["input"].dtype)) for x in dataset.values()}
    assert kinds == {(SETS[name][1], "uint8")}
    assert data.classes(dataset) == SETS[name][2]
    assert all(len(arrays["label"]) > 10 for arrays in dataset.values())


def test_moments_are_those_of_the_training_pixels(root):
    dataset = data.load("digits")
    mean, std = data.moments(dataset)
    pixels = np.asarray(dataset["train"]["input"], np.float64)
    scaled = (pixels - mean) / std
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-12)


def test_text_is_in_rows_that_share_one_byte_with_the_next(root):
    rows = np.asarray(data.load("stdlib", context=32)["train"]["input"])
    assert rows.shape[1] == 33 and rows.dtype == np.uint8
    np.testing.assert_array_equal(rows[:-1, -1], rows[1:, 0])
    text = rows[:, :-1].tobytes()
    assert b"import " in text and text.count(b"def ") > 1000


def test_topics_are_the_prose_that_help_prints(root):
    from pydoc_data.topics import topics

    splits = data.load("topics", context=32).values()
    text = b"".join(np.asarray(s["input"])[:, :-1].tobytes() for s in splits)
    assert topics["lambda"].encode() in text
    assert len(text) == pytest.approx(sum(map(len, topics.values())), rel=0.02)


def test_the_sha256_of_stdlib_is_that_of_this_pythons_files(root):
    files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(file.read_bytes() for file in files)
    assert data.digest("stdlib") == hashlib.sha256(text).hexdigest()
    (disk.find("stdlib", root) / "metadata.json").write_text("{}")
    with pytest.raises(data.DatasetDamaged, match="must record sha256"):
        data.load("stdlib", context=8)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("digits", {"resolution": 9}, r"at most.*got resolution=9 for \(8, 8\)"),
        ("digits", {"resolution": 0}, "at least 1, got resolution=0"),
        ("stdlib", {"context": 0}, "at least 1, got resolution=None and context=0"),
        ("digits", {"context": 0}, "at least 1"),
        ("wine", {"resolution": 2}, "has inputs of shape"),
        ("digits", {"context": 8}, "has inputs of shape"),
        ("digits", {"resolution": 4, "context": 8}, "has inputs of shape"),
        ("stdlib", {}, "takes context="),
        ("stdlib", {"context": 8, "resolution": 8}, "takes context="),
    ],
)
def test_shapes_that_a_set_cannot_have_are_errors(root, name, shape, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, **shape)
