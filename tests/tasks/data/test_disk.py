"""Where datasets are looked for, and what is said of those that are not there."""

import socket
import time

import pytest

from tasks import data
from tasks.data import disk


def refuse(*args):
    raise AssertionError("the network was asked")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty place for sets, and no network."""
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.mark.parametrize("name", ["mnist", "mnits", "cifar10/none", "../etc", ""])
def test_a_missing_set_is_an_error_at_once(root, name):
    start = time.process_time()
    with pytest.raises(data.DatasetNotFound) as error:
        data.load(name)
    assert time.process_time() - start < 2
    assert isinstance(error.value, FileNotFoundError)
    assert str(root) in str(error.value)
    assert f"python -m tasks.data.prepare {name}" in str(error.value)


def test_a_misspelt_name_lists_near_matches(root):
    with pytest.raises(data.DatasetNotFound, match="mnist"):
        data.load("mnits")
    with pytest.raises(data.DatasetNotFound, match="Near matches: digits"):
        data.load("digit")


def test_a_home_that_is_absent_or_unwritable_is_named_with_the_cure(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("TFDS_DATA_DIR")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    cure = "set TFDS_DATA_DIR to a directory"
    with pytest.raises(OSError, match=f"cannot be written to .*file.*; {cure}"):
        disk.located("digits", disk.directory())
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as without a home
    with pytest.raises(OSError, match=f"there is no home directory; {cure}"):
        disk.directory()


def test_the_newest_whole_version_is_found(tmp_path):
    assert disk.find("a/b", tmp_path) is None
    for version in ("1.9.0", "1.10.0", "2.0.0.incomplete", "3.x.1"):
        (tmp_path / "a" / "b" / version).mkdir(parents=True)
    assert disk.find("a/b", tmp_path).name == "1.10.0"
    assert disk.find("a", tmp_path) is disk.find("../a/b", tmp_path) is None


def test_a_set_without_its_config_names_those_that_there_are(root):
    (root / "a" / "b" / "1.0.0").mkdir(parents=True)
    with pytest.raises(disk.DatasetNotFound, match="has configs, .* as a/b; load one"):
        disk.located("a", root)
