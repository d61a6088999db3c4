"""Preparing sets: what the command does, writes and says, and what it never does."""

import io
import json
import pathlib
import sys
import time
import types

import numpy as np
import PIL.Image
import pytest
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.core.utils import gcs_utils
from tensorflow_datasets.datasets.tiny_shakespeare import (
    tiny_shakespeare_dataset_builder as shakespeare,
)

from tasks import data
from tasks.base import SPLITS
from tasks.data import disk, embedded, prepare

NAMES = (
    "mnist fashion_mnist cifar10 cifar100 svhn_cropped lm1b tiny_shakespeare".split()
)
NAMES += ["imagenet_resized", "imagenet_resized/32x32"]


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Stored as most sets of images are: PNGs, in the splits "train" and "test"."""

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
            yield index, {"image": file.getvalue(), "label": index % 10}


class TinyConfigs(TinyImages):
    """Of two configs."""

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, version="1.0.0", description=name)
        for name in ("small", "large")
    ]


class TinyFailure(TinyImages):
    """Whose download fails, as `failure` says."""

    def _split_generators(self, dl_manager):
        raise self.failure


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty place for sets, and no network but what a test lets through."""
    monkeypatch.setattr(requests.Session, "request", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def tensorflow(monkeypatch):
    """Pretends that it is installed."""
    monkeypatch.setattr(prepare, "_check_tensorflow", lambda builder: None)


def refuse(*args, **given):
    raise AssertionError("the network was asked")


def failing(*names):
    with pytest.raises(SystemExit) as ended:
        prepare.main(names)
    assert ended.value.code == 1


def test_the_command_prepares_digits(root, capsys):
    prepare.main(["digits"])
    assert capsys.readouterr().out == f"digits: {root}/digits/1.0.0\n"


def test_embedded_sets_do_not_take_names_from_tfds(root):
    class Iris(TinyImages):
        """As TFDS has one, which it imports where TensorFlow is."""

    assert {cls.name for cls in embedded.SETS.values()} == set(data.EMBEDDED)
    assert tfds.core.registered._DATASET_REGISTRY.pop("iris") is Iris


def test_other_sets_are_prepared_read_and_split_in_four(root, capsys):
    prepare.main(["tiny_images"])
    assert f"\ntiny_images: {root}/tiny_images/1.0.0\n" in capsys.readouterr().out
    splits = data.load("tiny_images")
    assert [len(splits[split]["label"]) for split in SPLITS] == [32, 4, 4, 5]
    for arrays in splits.values():
        pixel = np.asarray(arrays["input"])[:, 3, 3, 2]
        np.testing.assert_array_equal(pixel % 10, arrays["label"])
    shown = [int(x) for s in SPLITS[:3] for x in splits[s]["input"][:, 0, 0, 0]]
    assert sorted(shown) == list(range(40))


def test_sets_of_tfds_ask_for_tensorflow_before_the_network(root, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    failing(*NAMES)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(NAMES) and not root.exists()
    for name, line in zip(NAMES, lines, strict=True):
        assert line.startswith(f"error: {name}: TFDS prepares its sets with TensorFlow")
        assert '`pip install tensorflow`, or `pip install "lopt[prepare]"`' in line


def test_the_true_tiny_shakespeare_is_prepared_and_loaded(
    root, tensorflow, tmp_path, monkeypatch
):
    text = "".join(f"{i:03d}\n" for i in range(1000))
    (tmp_path / "input.txt").write_text(text)
    gfile = types.SimpleNamespace(isdir=lambda path: False, GFile=open)
    io = types.SimpleNamespace(gfile=gfile)
    monkeypatch.setattr(shakespeare, "tf", types.SimpleNamespace(io=io))
    manager, file = tfds.download.DownloadManager, str(tmp_path / "input.txt")
    monkeypatch.setattr(manager, "download", lambda self, url: file)
    monkeypatch.setattr(prepare, "_status", lambda server, url: 200)
    prepare.main(["tiny_shakespeare"])
    splits = data.load("tiny_shakespeare", context=4)
    assert [len(splits[split]["input"]) for split in SPLITS] == [810, 50, 90, 50]
    rows = [
        bytes(x[:4]).decode() for s in SPLITS for x in np.asarray(splits[s]["input"])
    ]
    assert "".join(sorted(rows)) == text


def test_a_set_with_configs_is_loaded_by_the_name_that_is_printed(root, capsys):
    prepare.main(["tiny_configs", "tiny_configs/large"])
    out = capsys.readouterr().out
    assert f"\ntiny_configs/small: {root}/tiny_configs/small/1.0.0\n" in out
    assert f"\ntiny_configs/large: {root}/tiny_configs/large/1.0.0\n" in out
    assert len(data.load("tiny_configs/small")["test"]["label"]) == 5
    with pytest.raises(
        data.DatasetNotFound, match="configs.*/large, tiny_configs/small"
    ):
        data.load("tiny_configs")


@pytest.mark.parametrize(
    "name", ["mnist:3.0.1", "mnist/3.0.1", "a/b:1.0.0", "hf:mnist"]
)
def test_a_name_with_a_version_is_an_error(root, name, capsys):
    with pytest.raises(ValueError, match="`name` or `name/config`.*with a version"):
        data.load(name)
    failing(name)
    assert "`name` or `name/config`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "failure",
    [
        downloader.download_utils_lib.DownloadError("HTTP code:\n404"),
        tfds.download.download_manager.NonMatchingChecksumError("HTTP code:\n404"),
        KeyError("HTTP code: 404"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_name_that_fails_is_one_line_and_others_go_on(
    root, monkeypatch, capsys, failure
):
    monkeypatch.setattr(TinyFailure, "failure", failure, raising=False)
    failing("tiny_failure", "mnizt", "digits")
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("error")]
    kind = type(failure).__name__
    assert lines[0].startswith(f"error: tiny_failure: {kind}: ")
    assert "HTTP code: 404" in lines[0]
    assert lines[1].startswith("error: mnizt: TFDS knows no dataset 'mnizt'")
    assert out.endswith(f"digits: {root}/digits/1.0.0\n")


def test_a_set_that_is_not_where_it_should_be_is_an_error(root, monkeypatch, capsys):
    monkeypatch.setattr(disk, "find", lambda name, root: None)
    failing("tiny_images")
    assert "is not prepared in" in capsys.readouterr().err


def test_a_set_in_another_format_must_be_moved_away(root, capsys):
    path = root / "tiny_images" / "1.0.0"
    path.mkdir(parents=True)
    info = {"name": "tiny_images", "version": "1.0.0", "fileFormat": "tfrecord"}
    (path / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(data.DatasetNotFound, match="tasks.data.prepare tiny_images"):
        data.load("tiny_images")
    failing("tiny_images")
    assert f"is in {path} as tfrecord" in (error := capsys.readouterr().err)
    assert "move it away and run `python -m tasks.data.prepare tiny_images`" in error


def test_a_server_that_is_silent_is_named_at_once(
    root, tensorflow, monkeypatch, capsys
):
    def request(self, method, url, **given):
        assert given["timeout"] <= 10
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests.Session, "request", request)
    start = time.perf_counter()
    failing("mnist")
    assert time.perf_counter() - start < 5
    error = capsys.readouterr().err
    assert "storage.googleapis.com does not answer (ConnectTimeout); nothing" in error
    assert not root.exists()


ANSWERS = {
    "gone": lambda method, url: 404,
    "down": lambda method, url: 503,
    "no heads": lambda method, url: 405 if method == "HEAD" else 200,
    "one gone": lambda method, url: 404 if "t10k-images" in url else 200,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_that_has_nothing_is_an_error(root, tensorflow, monkeypatch, answer):
    def send(self, method, url, **given):
        found = requests.Response()
        found.status_code, found.raw = (
            ANSWERS[answer](method.upper(), url),
            io.BytesIO(),
        )
        return found

    monkeypatch.setattr(requests.Session, "request", send)
    builder = tfds.builder("mnist", data_dir=root)
    if answer in ("no heads", "one gone"):
        return prepare._reach(builder)
    with pytest.raises(
        prepare.Unreachable, match=r"com answers with HTTP (404|503) for"
    ):
        prepare._reach(builder)


def test_every_request_of_a_download_is_bounded(monkeypatch):
    seen = []
    record = lambda self, *args, **given: seen.append(given["timeout"])  # noqa: E731
    monkeypatch.setattr(requests.Session, "request", record)
    monkeypatch.setattr(gcs_utils, "_is_gcs_disabled", False)
    before = downloader.MAX_RETRIES
    with prepare._bounded():
        assert downloader.MAX_RETRIES == prepare.RETRIES
        assert not gcs_utils.is_dataset_on_gcs("mnist")
        requests.Session().get("https://example.org", stream=True)
    assert seen == [(prepare.CONNECT, prepare.READ)]
    assert downloader.MAX_RETRIES == before and not gcs_utils._is_gcs_disabled
