"""A run becomes an artifact that an Optax loop can use."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import lopt
import meta_train.run
from lopt.artifact import FIELDS
from meta_train.export import export
from meta_train.loop import Progress


@pytest.fixture(scope="module")
def run():
    return meta_train.run.build(tiny.get_config())


@pytest.fixture(scope="module")
def progress(run):
    rule = lopt.build(run.config["rule"]["name"], **run.config["rule"]["args"])
    best = rule.init(jax.random.key(3))
    return Progress(meta=None, best=best, best_step=40, step=60, seconds=12.34)


@pytest.fixture
def path(run, progress, tmp_path):
    return export(run, progress, tmp_path / "artifact")


def test_exported_theta_is_the_best_average(path, progress):
    found = lopt.read(path).theta
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), found, progress.best)
    assert all(jax.tree.leaves(same))


def test_card_fills_every_field_but_the_evaluation(path):
    card = json.loads((path / "card.json").read_text())
    assert [name for name in FIELDS if card[name] is None] == ["schedule", "evaluation"]
    assert card["trained_horizon"] == [4, 6]
    assert card["trained_widths"] == [1.0, 1.0]
    assert card["meta_steps"] == 60
    assert card["inner_steps"] == 60 * 2 * 2
    assert card["seconds"] == 12.3
    assert card["selected"]["meta_step"] == 40
    assert card["config"]["seed"] == 0


def test_exported_rule_does_what_it_did_when_saved(path):
    assert lopt.verify(path) == 0
    tx = lopt.load(path, num_steps=5)
    params = {"w": jnp.ones((3, 2))}
    updates, _ = tx.update(params, tx.init(params), params)
    assert jnp.isfinite(updates["w"]).all()


def test_exporting_twice_replaces_the_artifact(run, progress, path):
    before = (path / "theta.safetensors").read_bytes()
    assert export(run, progress, path) == path
    assert (path / "theta.safetensors").read_bytes() == before


def test_artifact_is_below_100_kB(path):
    assert sum(file.stat().st_size for file in path.iterdir()) < 100_000
