"""A run becomes an artifact that an Optax loop can use."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import lopt
import meta_train.build
from common.machine import provenance
from lopt.artifact import FIELDS
from meta_train.artifacts.export import add_evaluation, export, main
from meta_train.loop import Progress


@pytest.fixture(scope="module")
def run():
    return meta_train.build.build(tiny.get_config())


@pytest.fixture(scope="module")
def progress(run):
    rule = lopt.build(run.config["rule"]["name"], **run.config["rule"]["args"])
    best = rule.init(jax.random.key(3))
    return Progress(
        meta=None,
        best=best,
        best_step=40,
        step=60,
        seconds=12.34,
        origin=provenance(),
    )


@pytest.fixture
def path(run, progress, tmp_path):
    return export(run, progress, tmp_path / "artifact")


def test_exported_theta_is_the_best_average(path, progress):
    found = lopt.read(path).theta
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), found, progress.best)
    assert all(jax.tree.leaves(same))


def test_card_fills_every_field_but_the_evaluation(path):
    card = json.loads((path / "card.json").read_text())
    absent = {name for name in FIELDS if card[name] is None}
    absent -= {"code_revision"}
    assert absent == {"start", "evaluation", "verdict"}
    assert card["trained_horizon"] == [4, 6]
    assert card["trained_widths"] == [1.0, 1.0]
    assert card["meta_steps"] == 60
    assert card["inner_steps"] == 60 * 2 * 2
    assert card["seconds"] == 12.3
    assert card["selected"]["meta_step"] == 40
    assert card["config"]["seed"] == 0


def test_card_says_what_the_run_went_on_from(run, progress, path, tmp_path):
    inner = run.config["inner"] | {"horizon": [5, 9]}
    config = run.config | {"inner": inner, "theta": {"start": str(path), "frozen": ()}}
    later = dataclasses.replace(run, config=config)
    before = lopt.read(path).card
    card = lopt.read(export(later, progress, tmp_path / "later")).card
    assert card["start"]["sha256"] == before["sha256"]
    assert card["start"]["inner_steps"] == before["inner_steps"]
    assert card["trained_horizon"] == [4, 9] and card["start"]["start"] is None


def test_rule_whose_every_validation_diverged_is_exported(run, progress, tmp_path):
    diverged = dataclasses.replace(progress, best_score=math.inf)
    path = export(run, diverged, tmp_path / "artifact")
    assert lopt.read(path).card["selected"] == {
        "meta_step": 40,
        "averages": 1,
        "score": None,
        "by": "last average",
    }


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


def report(directory):
    """Writes what `add_evaluation` reads of an evaluation of three optimizers."""
    mean = {"value": 0.500012, "low": 0.4, "high": None, "values": [0.4, 0.6]}
    ratio = {"value": 1.50001, "low": 1.0, "high": 2.0, "censored": 3}
    row = {"error": None, "metrics": {"mean": mean, "accuracy": mean}, "speedup": ratio}
    rows = [row | {"optimizer": name} for name in ("mine", "other")]
    rows.append({"optimizer": "adam", "error": "ValueError: no"})
    names = {"mine": False, "other": False, "adam": True}
    results = {
        "settings": {
            "suite": "toy-v1",
            "seeds": [4, 5],
            "tuning": {"trials": 20},
            "reference": "adam",
            "optimizers": {n: {"baseline": b, "trials": 0} for n, b in names.items()},
        },
        "standings": {n: {"diverged": 0.0} for n in names},
        "made": {"date": "2026-11-27", "revision": "f00"},
        "environment": {"jax": "0.10", "processor": "a fast one"},
        "tasks": {"toy": {"rows": rows}},
    }
    directory.mkdir()
    (directory / "results.json").write_text(json.dumps(results))
    return directory


def test_an_evaluation_goes_into_the_card_and_nothing_else_changes(path, tmp_path):
    before = lopt.read(path).card
    add_evaluation(path, report(tmp_path / "report"), "mine")
    after = lopt.read(path).card
    found = after["evaluation"]["toy-v1"]
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"evaluation", "digest"} and after.keys() == before.keys()
    mean = {"value": 0.5, "low": 0.4, "high": None}
    speedup = {"value": 1.5, "low": 1.0, "high": 2.0, "censored": 3}
    assert found["tasks"]["toy"] == {
        "mine": {"mean": mean, "speedup": speedup},
        "adam": {"error": "ValueError: no"},
    }
    assert found["made"] == {"date": "2026-11-27", "revision": "f00"}
    assert found["environment"] == {"jax": "0.10", "processor": "a fast one"}
    assert found["seeds"] == [4, 5] and found["standings"].keys() == {"mine", "adam"}


def test_evaluations_on_other_suites_and_the_verdict_stay(path, tmp_path):
    given = str(path), str(report(tmp_path / "report")), "mine"
    main([*given, "--verdict", "fast on toys"])
    file = tmp_path / "report" / "results.json"
    file.write_text(file.read_text().replace("toy-v1", "toy-v2"))
    main(given)
    card = lopt.read(path).card
    assert card["evaluation"].keys() == {"toy-v1", "toy-v2"}
    assert card["verdict"] == "fast on toys"


def test_an_evaluation_of_others_is_refused(path, tmp_path):
    with pytest.raises(
        ValueError, match="unknown optimizer of .*: 'his'; known: adam, mine, other"
    ):
        add_evaluation(path, report(tmp_path / "report"), "his")


def test_a_field_that_cards_lack_is_refused(path):
    with pytest.raises(ValueError, match="unknown field 'evalution'"):
        lopt.artifact.annotate(path, evalution={})
