"""Bias, variance and cost of estimators against closed forms, by a config."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from places import ROOT

from configs import compare_estimators
from meta_train import estimators
from meta_train.study import compare, moments

DOCS = ROOT / "docs"
NOISY = {"noise": toys.noise(0.1)}
WHOLE = ("full", "es")


def plan(name, inners):
    """Returns how to measure an estimator over a horizon, of two windows."""
    args = {"full": {"clip": None}, "truncated": {}}.get(name, NOISY)
    estimator = estimators.build(
        name, inner=inners[name in WHOLE], num_workers=4, **args
    )
    if name in WHOLE:
        return moments.Plan(estimator, 0, 1)
    return moments.Plan(estimator, 2, 2)


@pytest.fixture(scope="module")
def rows():
    """Returns what is found where L_t = t theta: a run's gradient is 4.5."""
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    inners = {
        False: toys.inner(toys.drift(), family, window=4, horizon=8, stagger=True),
        True: toys.inner(toys.drift(), family, window=8, horizon=8),
    }
    names = ("full", "truncated", "es", "pes", "nres")
    plans = {name: plan(name, inners) for name in names}
    full = plans["full"].estimator
    args = dict(seed=0, replicas=400, exact=3)
    return compare.measured(plans, full, jnp.zeros([]), {}, **args)["rows"]


def test_truncation_has_the_bias_and_variance_of_its_windows(rows):
    # Windows at eight phases; three hold a restart, after which L_t begins anew.
    windows = np.array([10, 10, 10, 10, 10, 7, 6, 7]) / 4
    value, error = rows["truncated"]["bias"]
    assert abs(value - (1 - windows.mean() / 4.5) ** 2) < 3 * error < 0.05
    variance = windows.var() / 4.5**2 / 4  # over four workers
    snr = (windows.mean() / 4.5) ** 2 / variance
    np.testing.assert_allclose(rows["truncated"]["variance"], variance, rtol=0.2)
    np.testing.assert_allclose(rows["truncated"]["snr"][0], snr, rtol=0.2)


def test_estimators_without_bias_have_none(rows):
    for name in ("full", "es", "pes", "nres"):
        value, error = rows[name]["bias"]
        assert abs(value) <= 3 * error + 1e-9 and error < 0.05, name
    assert rows["full"]["variance"] < 1e-9


def test_variances_of_evolution_strategies_are_those_of_squared_normals(rows):
    # Of eps^2 / sigma^2, over four pairs.
    np.testing.assert_allclose(rows["es"]["variance"], 2 / 4, rtol=0.3)
    # What a run's windows share does not average out in a row.
    for name in ("pes", "nres"):
        assert rows[name]["in_row"] > 1.2 * rows[name]["variance"], name


def test_costs_are_inner_steps_of_all_workers_and_seconds(rows):
    steps = {"full": 4 * 9, "truncated": 16, "es": 2 * 4 * 9, "pes": 32, "nres": 32}
    assert {name: row["steps"] for name, row in rows.items()} == steps
    for row in rows.values():
        assert 0 < row["seconds"] < 1 and not row["diverged"]
        snr = row["snr"][0]
        np.testing.assert_allclose(row["snr_per_1000_steps"], 1000 * snr / row["steps"])
        np.testing.assert_allclose(row["snr_per_second"], snr / row["seconds"])


@pytest.mark.slow
def test_quick_config_writes_results_once(tmp_path, monkeypatch):
    config = compare_estimators.get_config("quick")
    found = compare.compare(config, tmp_path, tmp_path / "mine.md")
    results = json.loads((tmp_path / "results.json").read_text())
    rows = results["iris_start"]["rows"]
    assert list(rows) == ["full", "truncated", "bootstrapped", "pes"]
    assert results["iris_start"]["parameters"] == 27
    assert (tmp_path / "mine-iris_start-signal.png").exists()
    monkeypatch.setattr(compare, "measured", None)  # it is not measured again
    assert compare.compare(config, tmp_path) == json.loads(json.dumps(found))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("sed",), "config has no key 'sed'; did you mean 'seed'"),
        (("problems", "iris_start", "windw"), "iris_start has .*'windw'.* 'window'"),
        (("estimators", "pes", "horizon"), "estimators.pes has .*'horizon'.* 'horizo"),
        (("estimators", "pes", "args", "nois"), "args has no key 'nois'.* 'noise'"),
        (("inner", "reduc"), "config.inner has no key 'reduc'; did you mean 'reduce'"),
    ],
)
def test_misspelt_keys_are_refused_with_the_nearest(tmp_path, place, message):
    config = section = compare.complete(compare_estimators.get_config("quick"))
    *path, key = place
    for name in path:
        section = section[name]
    section[key] = 0
    with pytest.raises(ValueError, match=message):
        compare.compare(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_estimators_and_bad_sizes_are_refused(tmp_path):
    for key, value, message in [
        ("estimators", ("pse",), "unknown estimator 'pse'.*'pes'"),
        ("horizon", 5, "multiple of window"),
        ("skip", 0, "skip >= 1"),
    ]:
        config = compare_estimators.get_config("quick").to_dict()
        config["problems"]["iris_start"][key] = value
        with pytest.raises(ValueError, match=message):
            compare.compare(config, tmp_path)


def test_every_estimator_is_compared():
    # Implicit gradients are of what enters the inner objective, not of rules.
    sections = compare_estimators.get_config().estimators.values()
    compared = {section.name for section in sections}
    assert compared == set(estimators.ESTIMATORS) - {"implicit"}


def test_page_of_the_docs_has_a_place_for_each_problem():
    text = (DOCS / "estimators.md").read_text()
    for name in compare_estimators.get_config().problems:
        assert f"<!-- {name} -->" in text and f"<!-- end of {name} -->" in text
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 7 and all((DOCS / x).exists() for x in pictures)
