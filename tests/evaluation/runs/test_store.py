"""Kept runs: found by what they are of, whole or not at all."""

import numpy as np
import pytest

from evaluation.runs.store import Store, opened

WHAT = {"optimizer": "a", "seed": 1, "hyperparameters": {"b": 2.0, "c": "x"}}


def arrays(value=1.0):
    return {"train": np.float32([value, np.nan, np.inf]), "test": np.zeros([])}


def test_what_is_put_is_found_by_what_it_is_of(tmp_path):
    with opened(tmp_path) as store:
        store.put([(WHAT, arrays())])
    with opened(tmp_path) as store:
        turned = dict(reversed(WHAT.items()))
        (found,) = store.get([turned]).values()
        assert store.get([WHAT | {"seed": 2}]) == {}
    for name, x in arrays().items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == x.dtype


def test_what_fails_half_way_leaves_nothing():
    store = Store()

    def broken():
        yield WHAT, arrays()
        raise OSError

    with pytest.raises(OSError):
        store.put(broken())
    assert store.get([WHAT]) == {}


def test_what_cannot_be_read_is_missing_and_replaced():
    store = Store()
    store.put([(WHAT, arrays())])
    with store.database:
        store.database.execute("UPDATE runs SET arrays = substr(arrays, 1, 40)")
    assert store.get([WHAT]) == {}
    store.put([(WHAT, arrays())])
    assert store.get([WHAT])


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "trials.sqlite").write_text("no database" * 100)
    with (
        pytest.raises(ValueError, match="holds no runs"),
        opened(tmp_path),
    ):
        pass
