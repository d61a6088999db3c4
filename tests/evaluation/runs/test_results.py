"""Results on disk and back, also damaged ones and those of before."""

import json

import jax
import numpy as np
import pytest
from results import results as toy
from toy_evaluation import SMALL, judged, plain

from evaluation.report.markdown import markdown
from evaluation.report.summary import summary
from evaluation.runs import results


def failing(*, num_steps):
    raise RuntimeError("no such thing")


def test_results_come_back_from_disk_as_they_were(tmp_path):
    got = judged({"mine": plain, "adam": SMALL, "failing": failing}, reference="adam")
    results.save(got, tmp_path)
    back = results.load(str(tmp_path))
    assert json.dumps(back.settings) == json.dumps(got.settings)
    assert jax.tree.structure(back.cells) == jax.tree.structure(got.cells)
    for a, b in zip(*map(jax.tree.leaves, (back.cells, got.cells)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", results.FILES)
def test_damaged_results_are_named(tmp_path, name):
    with pytest.raises(ValueError, match="holds no evaluation"):
        results.load(tmp_path)
    results.save(toy(), tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        results.load(tmp_path)


def test_what_was_saved_before_days_were_kept_still_loads(tmp_path):
    results.save(toy(), tmp_path)
    cells = json.loads((tmp_path / "cells.json").read_text())
    del cells["made"]
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    back = results.load(tmp_path)
    assert back.made == {}
    text_ = markdown(summary(back))
    assert "toy-v1: 3 tasks × 3 seeds." in text_ and "Evaluated on" not in text_
