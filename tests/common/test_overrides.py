"""Flags that set fields of a config: of any type, with defaults, or refused."""

import re
import sys

import pytest
from absl import flags
from ml_collections import config_flags
from places import ROOT

from common import overrides, settings
from meta_train.sections import complete


def flagged(monkeypatch, *arguments):
    """Returns the config that flags make of the demo's, resolved."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    argv = ["", "--config=configs/demo.py:quick", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.chdir(ROOT)
    overrides.parse(argv, values, complete=complete)
    return settings.resolve(values.config)


LINEAR = {"name": "linear", "peak": 0.1}


@pytest.mark.parametrize(
    ("arguments", "section", "key", "value"),
    [
        (["family.args.resolution=4"], "family", "args", 4),
        (["inner.window=7"], "inner", "window", 7),
        (["inner.window=(2, 9)"], "inner", "window", (2, 9)),
        (["inner.schedule=None"], "inner", "schedule", None),
        (["inner.schedule=linear"], "inner", "schedule", "linear"),
        ([f"inner.schedule={LINEAR}"], "inner", "schedule", LINEAR),
        (
            ["inner.imitation.name=linear", "inner.imitation.peak=0.1"],
            "inner",
            "imitation",
            LINEAR,
        ),
        (["validation.suite=smoke-v1"], "validation", "suite", "smoke-v1"),
        (["validation.log_offset=1e-2"], "validation", "log_offset", 0.01),
    ],
)
def test_fields_can_be_set_by_flags_whatever_their_type(
    monkeypatch, arguments, section, key, value
):
    found = flagged(monkeypatch, *(f"--config.{x}" for x in arguments))[section][key]
    assert (found["resolution"] if key == "args" else found) == value


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "outer.learing_rate=1",
            "config.outer has no key 'learing_rate'; did you",
        ),
        ("nosuch=1", "config has no key 'nosuch'; did you mean '"),
        ("inner.horizon.x=3", "config.inner.horizon holds no keys, so"),
        ("outr.clip=3", "config has no key 'outr'; did you mean 'outer'?"),
    ],
)
def test_flags_of_no_key_are_one_line_without_escapes(monkeypatch, argument, message):
    with pytest.raises(SystemExit, match=f"^error: {re.escape(message)}") as ended:
        flagged(monkeypatch, f"--config.{argument}")
    assert "\n" not in ended.value.code and "\\" not in ended.value.code


def test_a_name_that_a_flag_sets_takes_its_own_defaults(monkeypatch):
    words = "--config.estimator.name=pes", "--config.estimator.args.noise.sigma=0.1"
    found = flagged(monkeypatch, *words, "--config.rule.name=weight_decay")
    assert found["estimator"]["args"]["noise"]["sigma"] == 0.1
    assert found["estimator"]["args"]["noise"]["antithetic"] is True
    assert found["rule"]["args"].keys() == {"baseline", "learning_rate", "initial"}


def test_a_suite_that_a_flag_sets_takes_weights_of_its_own(monkeypatch):
    words = "--config.family.name=smoke-v1", "--config.family.weights.quadratic=2"
    found = flagged(monkeypatch, *words)["family"]
    assert found["args"] == {}
    assert found["weights"] == {"softmax_regression": 1.0, "quadratic": 2}
