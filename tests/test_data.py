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

from tasks import data, embedded, prepare, stored
from tasks.base import SPLITS


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


def test_preparing_again_gives_the_same_bytes(root, tmp_path, monkeypatch):
    first = fingerprint(data.load("digits"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "again"))
    assert fingerprint(data.load("digits")) == first
    assert first.startswith("fcc0a5c8903f928f")
    seed = json.loads((data.find("digits", root) / "metadata.json").read_text())
    images = np.asarray(load_digits().images, np.uint8)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert seed == {"split_seed": embedded.SPLIT_SEED, "sha256": digest}


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
        pixel = np.asarray(arrays["input"])[:, 3, 3, 2]
        np.testing.assert_array_equal(pixel % 10, arrays["label"])
    shown = [int(x) for s in SPLITS[:3] for x in splits[s]["input"][:, 0, 0, 0]]
    assert sorted(shown) == list(range(40))


def test_mocked_tfds_sets_are_read_by_the_same_code(tmp_path):
    class Source(list):
        def __getitems__(self, keys):
            return [self[key] for key in keys]

    def examples(builder, split, **kwargs):
        shape = builder.info.features["image"].shape
        return Source([{"image": np.ones(shape, np.uint8), "label": 3}] * 20)

    with tfds.testing.mock_data(as_data_source_fn=examples):
        builder = tfds.builder("mnist", data_dir=tmp_path)
        columns = stored.stack(stored.sources(builder)["train"].__getitems__(range(20)))
    assert columns["input"].shape == (20, 28, 28, 1)
    assert columns["label"].tolist() == [3] * 20


def test_a_set_without_a_test_split_gives_up_a_tenth_for_it():
    arrays = {"train": {"input": np.arange(100), "label": np.arange(100)}}
    splits = stored.four_splits(arrays)
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
    pixels = np.asarray(dataset["train"]["input"], np.float64)
    scaled = (pixels - mean) / std
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-12)


SHAPES = {
    "patches8": ((8, 8, 3), 8480, 2),
    "patches16": ((16, 16, 3), 2080, 2),
    "breast_cancer": ((30,), 569, 2),
    "wine": ((13,), 178, 3),
    "iris": ((4,), 150, 3),
    "diabetes": ((10,), 442, 0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_embedded_sets_are_whole_and_small_typed(root, name):
    (shape, count, classes), splits = SHAPES[name], data.load(name)
    assert sum(len(arrays["input"]) for arrays in splits.values()) == count
    assert {arrays["input"].shape[1:] for arrays in splits.values()} == {shape}
    assert {arrays["input"].dtype for arrays in splits.values()} == {np.dtype("uint8")}
    assert data.classes(splits) == classes
    assert all(len(arrays["label"]) > 10 for arrays in splits.values())


def test_patches_put_together_are_the_photographs(root):
    from sklearn.datasets import load_sample_images

    splits = data.load("patches16").values()
    found = {bytes(x) for split in splits for x in np.asarray(split["input"])}
    corners = {bytes(x[32:48, 48:64].copy()) for x in load_sample_images().images}
    assert len(corners) == 2 and corners <= found


def test_tables_are_scaled_to_the_bytes_and_keep_their_labels(root):
    from sklearn.datasets import load_diabetes

    columns, labels = load_diabetes(return_X_y=True)
    splits = data.load("diabetes").values()
    inputs, found = (
        np.concatenate([np.asarray(split[key]) for split in splits])
        for key in ("input", "label")
    )
    assert (inputs.min(0) == 0).all() and (inputs.max(0) == 255).all()
    assert sorted(found) == sorted(labels) and found.dtype == np.float32
    assert np.corrcoef(inputs[:, 2], found)[0, 1] == pytest.approx(
        np.corrcoef(columns[:, 2], labels)[0, 1], abs=0.01
    )


def test_text_is_in_rows_that_share_one_byte_with_the_next(root):
    rows = np.asarray(data.load("stdlib", context=32)["train"]["input"])
    assert rows.shape[1] == 33 and rows.dtype == np.uint8
    np.testing.assert_array_equal(rows[:-1, -1], rows[1:, 0])
    text = rows[:, :-1].tobytes()
    assert b"import " in text and text.count(b"def ") > 1000
    recorded = json.loads((data.find("stdlib", root) / "metadata.json").read_text())
    assert len(recorded["sha256"]) == 64


def test_a_lower_resolution_is_the_mean_of_blocks(root):
    full, half = (
        np.asarray(data.load("digits", resolution=n)["test"]["input"], float)
        for n in (8, 4)
    )
    expected = full[:, ::2, ::2] + full[:, 1::2, ::2] + full[:, ::2, 1::2]
    expected = (expected + full[:, 1::2, 1::2]) / 4
    np.testing.assert_allclose(half, expected, atol=0.5)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("digits", {"resolution": 3}, "must divide"),
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


class TinyText(tfds.core.GeneratorBasedBuilder):
    """Stored as TFDS stores text: strings, one of them long, in one split."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "".join(f"{i:03d}" for i in range(100))}


def test_text_of_others_is_split_in_four_by_rows(root):
    TinyText(data_dir=root, file_format="array_record").download_and_prepare()
    splits = data.load("tiny_text", context=3)
    assert [len(splits[split]["input"]) for split in SPLITS] == [70, 10, 10, 10]
    rows = {bytes(x[:3]) for s in SPLITS for x in np.asarray(splits[s]["input"])}
    assert rows == {f"{i:03d}".encode() for i in range(100)}
    assert data.classes(splits) == 256


def test_a_server_that_is_silent_is_named_at_once(tmp_path, monkeypatch, capsys):
    import requests

    def head(url, *, timeout, **given):
        assert timeout <= 10
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "head", head)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    start = time.perf_counter()
    with pytest.raises(SystemExit) as ended:
        prepare.main(["mnist"])
    assert time.perf_counter() - start < 5
    assert "does not answer (ConnectTimeout); nothing was written" in ended.value.code
    assert "Run `python -m tasks.prepare mnist` again" in ended.value.code
    assert not (tmp_path / "sets").exists()


def test_every_request_of_a_download_is_bounded(monkeypatch):
    import requests
    from tensorflow_datasets.core.download import downloader

    seen = []
    record = lambda self, *args, **given: seen.append(given["timeout"])  # noqa: E731
    monkeypatch.setattr(requests.Session, "request", record)
    before = downloader.MAX_RETRIES
    with prepare._bounded():
        assert downloader.MAX_RETRIES == prepare.RETRIES
        requests.Session().get("https://example.org", stream=True)
    assert seen == [(prepare.CONNECT, prepare.READ)]
    assert downloader.MAX_RETRIES == before


def test_a_name_that_tfds_does_not_know_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match="error: TFDS knows no dataset 'mnizt'"):
        prepare.main(["mnizt"])
