"""Cut at any meta-step and gone on with, every estimator ends with the same bits."""

import jax
import numpy as np
import pytest
import tiny
import toys
from ml_collections import ConfigDict

import meta_train.build
from lopt import rules
from meta_train import logging
from meta_train.estimators import ESTIMATORS
from meta_train.loop import loop

CUTS = (1, 3, 4)  # meta-steps of 8; one of them is saved on the way, too
LIKE_OTHERS = ("multi_step", "smoothed", "es", "truncated_es")
VARIANTS = {
    "pes": dict(stagger=True, window=(1, 3), growth=3, reduce="min"),
    "nres": dict(stagger=True, window=(1, 3), growth=3),
    "full": dict(growth=3, reduce="last"),
}


def build(name, monkeypatch):
    """Returns a run on quadratics, of a rule that compiles fast."""
    c = tiny.get_config(name)
    if name != "implicit":  # which has a rule of its own
        monkeypatch.setitem(rules.RULES, "toy", toys.heavy_ball)
        c.rule = ConfigDict({"name": "toy", "args": {}})
        c.theta = {"frozen": ("decay",) if name == "truncated" else ()}
    with c.ignore_type():
        c.inner.update(VARIANTS.get(name, {}))
    c.outer.num_steps = 8
    c.checkpoint.every = 4
    return meta_train.build.build(c)


def stop_at(step):
    """Returns a `stop` that is true once asked for the step after `step`."""
    asked = iter([False] * step)
    return lambda: next(asked, True)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=pytest.mark.slow if x in LIKE_OTHERS else ())
        for x in ESTIMATORS
    ],
)
def test_a_run_cut_three_times_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    run = build(name, monkeypatch)
    whole, done = loop(run, tmp_path / "whole"), 0
    for cut in CUTS:
        assert loop(run, tmp_path / "cut", stop=stop_at(cut - done)).step == cut
        done = cut
    resumed = loop(run, tmp_path / "cut")
    assert resumed.step == whole.step == 8
    assert bits((resumed.meta, resumed.best)) == bits((whole.meta, whole.best))
    files = [tmp_path / name / logging.METRICS for name in ("whole", "cut")]
    assert files[0].read_text() == files[1].read_text()
    rows = logging.read(files[0])
    assert sum(row["restarts"] for row in rows) > 0
    assert len({row["loss"] for row in rows}) == 8
