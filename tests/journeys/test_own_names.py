"""A name of one's own, `module:attribute`, does wherever a name is taken."""

import sys

import pytest

from evaluation.runs import curves, entrants
from lopt import rules, schedules
from meta_train import estimators
from meta_train.artifacts import starting
from meta_train.estimators.bootstrapped import Target
from meta_train.inner import imitation
from meta_train.study import tables
from tasks import __main__ as command
from tasks import data, families, suites

MINE = """
import numpy as np
import optax
from lopt import LearnedOptimizer
from lopt.rules import weight_decay
from lopt.rules.heads import exp
from meta_train.estimators.base import Estimator
from tasks.base import TaskFamily
from tasks.data.own import from_arrays
from tasks.entries import SURFACE, Entry

number = 1.0
HEAD = (2, exp)
LION = optax.lion(1e-3)
SUITE = {"bowl": Entry("surface", SURFACE, 20)}
POINTS = from_arrays(np.arange(40.0).reshape(20, 2), np.arange(20) % 2)

def rule() -> LearnedOptimizer:
    return weight_decay.weight_decay()

def family() -> TaskFamily: ...

def estimator(*, inner, num_workers) -> Estimator: ...

def ramp(peak, num_steps) -> optax.Schedule:
    return optax.linear_schedule(0.0, peak, num_steps)

def expert() -> optax.GradientTransformation:
    return optax.sgd(0.1)

def rated(learning_rate) -> optax.GradientTransformation:
    return optax.lion(learning_rate)

def lasting(*, num_steps, learning_rate) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)
"""

TAKERS = {
    "rule": ("rule", rules.find),
    "family": ("family", families.find),
    "estimator": ("estimator", estimators.find),
    "expert": ("expert", imitation.find),
    "schedule": ("ramp", lambda x: schedules.build(x, peak=1.0, num_steps=4)),
    "head": ("HEAD", lambda x: rules.build("mlp", head=x)),
    "suite": ("SUITE", suites.find),
    "data set": ("POINTS", data.load),
    "baseline of a target": ("rated", lambda x: Target(baseline=x)),
    "baseline of a rule": (
        "lasting",
        lambda x: rules.build("weight_decay", baseline=x),
    ),
    "optimizer": ("LION", lambda x: entrants.find([x])),
}


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("what", TAKERS)
def test_every_name_may_be_ones_own(what):
    attribute, take = TAKERS[what]
    assert take(f"mine:{attribute}") is not None
    for wrong in ("mine:none", "mine:number"):
        with pytest.raises(ValueError, match=wrong):
            take(wrong)


def test_an_estimator_of_ones_own_has_a_line_in_pictures():
    found = {"rows": {"a": {"name": "pes"}, "b": {"name": "mine:estimator"}}}
    assert tables._style("b", found)["color"]


def test_a_suite_of_ones_own_is_measured_by_the_command(capsys):
    command.main(["mine:SUITE"])
    assert "bowl" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["mine:number"])
    assert "'mine:number' is no dict" in capsys.readouterr().err


def test_a_schedule_among_choices_is_one_of_the_house():
    with pytest.raises(ValueError, match=r"unknown schedule 'mine:ramp'.*linear"):
        curves._stack([{"schedule": "mine:ramp"}])


def test_starts_of_recipes_are_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (starting.place("checkpoints/demo") / "card.json").exists()
    assert starting.place("demo") == "demo"
