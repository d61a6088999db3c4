"""docs/families.md says how to add a family; here it is done as it says."""

import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import meta_train.run
from evaluation import curves
from lopt import mup
from lopt.baselines import BASELINES
from meta_train.loop import loop
from tasks import suites

PAGE = Path(__file__).parent.parent / "docs" / "families.md"


@pytest.fixture
def config(monkeypatch):
    """Returns a config of the page's family, whose row is in FAMILIES for the test."""
    file, lines = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.M
    )
    module = types.ModuleType("parity")
    exec(compile(file, "parity.py", "exec"), vars(module))
    name, function = re.search(r"`\"(\w+)\": parity\.(\w+)`", PAGE.read_text()).groups()
    monkeypatch.setitem(suites.FAMILIES, name, getattr(module, function))
    c = tiny.get_config("validated")
    with c.unlocked():
        exec(lines, {"c": c})
    return c


def test_the_family_of_the_page_is_meta_trained_on(config, tmp_path):
    config.outer.num_steps = 20
    progress = loop(meta_train.run.build(config), tmp_path)
    assert progress.step == 20 and progress.best_score < 4


def test_the_family_of_the_page_is_trained_under_mup(config):
    args = dict(config.family.args) | {"width": 64, "base_width": 16}
    family = suites.build("parity", **args)
    info = mup.infer(family.shapes, family.base_shapes)
    assert jax.tree.leaves(info.r_out) == [4.0, 4.0, 4.0]
    found = curves.curves(
        family,
        lambda *, num_steps: BASELINES["muadam"].build(
            num_steps=num_steps, learning_rate=3e-2, info=info
        ),
        num_steps=300,
        seeds=(0, 1, 2),
        valid_every=100,
    )
    assert np.all(found.train[0, :, -10:].mean(-1) < 0.2)
