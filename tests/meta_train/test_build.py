"""Configs build, say each value once, and their variants change what they say."""

import runpy

import jax
import pytest
import tiny
from places import ROOT

import meta_train.build
from common import settings
from meta_train.estimators import ESTIMATORS
from meta_train.sections import complete
from meta_train.workdir import refuse_other
from tasks import suites

MIXTURE = ROOT / "configs" / "mixture.py"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_demo_builds_with_every_estimator(estimator):
    run = meta_train.build.build(tiny.demo(f"quick,{estimator}"))
    assert run.config["estimator"]["name"] == estimator


def test_full_demo_builds_without_compiling_a_meta_step():
    assert meta_train.build.build(tiny.demo("")).outer.num_steps >= 100


def test_the_mixture_builds_of_the_whole_suite():
    run = meta_train.build.build(runpy.run_path(str(MIXTURE))["get_config"](""))
    assert list(run.families) == list(suites.SUITES["train-v1"])


@pytest.mark.parametrize("variant", ["quik", "pes,truncated"])
def test_unknown_variant_lists_the_known_ones(variant):
    with pytest.raises(ValueError, match="join by commas `quick` and at most one of"):
        tiny.demo(variant)


def test_quick_changes_values_but_no_key():
    full, quick = (complete(tiny.demo(name)) for name in ("", "quick"))
    assert jax.tree.structure(quick) == jax.tree.structure(full)
    assert quick != full


def test_workers_must_divide_among_devices(monkeypatch):
    config = tiny.get_config()
    mesh = meta_train.build.worker_mesh()
    monkeypatch.setattr(
        meta_train.build, "worker_mesh", lambda: type("Mesh", (), {"size": 4})()
    )
    with pytest.raises(ValueError, match="num_workers=2 and devices=4; try 4"):
        meta_train.build.build(config)
    assert mesh.axis_names == ("worker",)


def test_resolved_config_survives_its_own_json():
    config = settings.resolve(tiny.get_config())
    assert settings.resolve(config) == config
    refuse_other(config, config, where="here")
