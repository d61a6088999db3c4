"""Data sets of one's own: splits, types, and what is refused."""

import numpy as np
import pytest

import tasks
from tasks import data, families
from tasks.base import SPLITS
from tasks.data import own

X = np.arange(60.0).reshape(30, 2)
Y = np.arange(30) % 3


def test_every_example_is_in_one_split_with_its_label():
    dataset = tasks.from_arrays(X, Y, seed=1)
    rows = [
        (float(x[0]), int(y))
        for split in SPLITS
        for x, y in zip(*dataset[split].values(), strict=True)
    ]
    assert sorted(rows) == [(float(x[0]), int(y)) for x, y in zip(X, Y, strict=True)]
    assert [len(dataset[split]["label"]) for split in SPLITS] == [21, 3, 3, 3]
    assert data.classes(dataset) == 3
    assert data.classes(tasks.from_arrays(X, Y / 2)) == 0


@pytest.mark.parametrize(
    ("inputs", "labels", "options", "message"),
    [
        (X[:, 0], Y, {}, "need inputs"),
        (X, Y[:5], {}, "need inputs"),
        (X.astype(str), Y, {}, "need numbers"),
        (np.where(X > 5, np.nan, X), Y, {}, "need finite numbers"),
        (X, Y - 1, {}, "classes are counted from 0"),
        (X[:3], Y[:3], {}, "leave none empty"),
        (X, Y, {"shares": (0.5, 0.5)}, "that add to 1"),
    ],
)
def test_what_is_no_data_set_is_refused(inputs, labels, options, message):
    with pytest.raises(ValueError, match=message):
        tasks.from_arrays(inputs, labels, **options)


@pytest.fixture
def module(tmp_path, monkeypatch):
    text = "import numpy as np, tasks\nX = np.ones((20, 3))\n"
    text += "POINTS = tasks.from_arrays(X, np.arange(20) % 2)\nOTHER = 3\n"
    (tmp_path / "own_points.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


def test_families_take_it_by_name(module):
    args = dict(width=4, base_width=4, depth=1, batch_size=2)
    family = families.build("mlp", dataset="own_points:POINTS", **args)
    assert family.shapes["hidden0"]["kernel"].shape == (3, 4)
    assert family.shapes["readout"]["bias"].shape == (2,)


@pytest.mark.parametrize("name", ["own_points:OTHER", "own_points:NONE", "os:system"])
def test_a_name_of_something_else_is_refused(module, name):
    with pytest.raises(ValueError, match="data set"):
        own.find(name)


def test_a_set_of_ones_own_is_not_reshaped(module):
    with pytest.raises(ValueError, match="leave resolution and context"):
        data.load("own_points:POINTS", resolution=4)
