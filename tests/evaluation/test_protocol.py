"""Evaluations as wholes: what is kept, what is refused, what is said on the way."""

import datetime
import re
from pathlib import Path

import numpy as np
import optax
import pytest
from toy_evaluation import (
    SEEDS,
    SETTLED,
    SMALL,
    STEPS,
    TUNING,
    family,
    judged,
    plain,
)

from common import disk, machine
from evaluation.runs import curves
from evaluation.runs.store import Store, kept
from evaluation.runs.tuning import METRICS, Tuning
from tasks import suites


def test_one_optimizer_is_judged_against_the_reference():
    quick = Tuning("none", 1, (0,))
    one = judged(optax.adam(0.3), reference="sgdm", tuning=quick)
    assert list(one.settings["optimizers"]) == ["yours", "sgdm"]
    assert one.settings["optimizers"]["sgdm"] == SETTLED | {"baseline": True}


@pytest.mark.parametrize(
    "tx",
    [
        optax.lbfgs(),
        optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
        optax.apply_if_finite(optax.sgd(0.1), 3),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        optax.contrib.schedule_free_sgd(0.1),
        optax.contrib.momo(0.1),
    ],
)
def test_any_optax_transformation_can_be_judged(tx):
    cell = judged(tx).cells[0]
    assert cell.error is None and cell.best("final").curves.finite.all()


# Nothing is made twice, and nothing is asked for in vain.


def test_a_second_evaluation_makes_only_what_is_new(tmp_path, monkeypatch):
    made = []
    real = curves.run
    monkeypatch.setattr(
        curves, "run", lambda *a, **k: made.append(k["num_steps"]) or real(*a, **k)
    )
    first = judged({"adam": SMALL}, directory=tmp_path)
    count = len(made)
    lines = []
    again = judged({"renamed": SMALL}, directory=tmp_path, say=lines.append)
    assert len(made) == count and "kept from before" in lines[-1]
    for one in METRICS:
        np.testing.assert_array_equal(
            first.cells[0].chosen[one].curves.train,
            again.cells[0].chosen[one].curves.train,
        )
    judged({"adam": SMALL}, directory=tmp_path, seeds=(*SEEDS, 9))
    assert len(made) == count + 1  # the new seed, of the reported runs alone
    judged({"adam": SMALL, "mine": plain}, directory=tmp_path)
    assert len(made) == count + 2


def test_without_a_directory_runs_are_kept_in_a_temporary_one_that_is_named():
    lines = []
    judged({"mine": plain}, say=lines.append)
    place = re.match("runs are kept in (\\S+);", lines[0])[1]
    assert "/lopt-evaluation-" in place
    assert kept(Path(place)) >= len(SEEDS)
    judged({"mine": plain}, directory=place, say=lines.append)
    assert "kept from before" in lines[-1]


def test_results_say_on_which_day_and_by_what_they_were_made():
    today = datetime.datetime.now(datetime.UTC).date()
    made = judged({"mine": plain}).made
    assert today - datetime.date.fromisoformat(made["date"]) <= datetime.timedelta(1)
    assert made["command"] == "evaluate(...) from Python"
    assert made["revision"] == machine.revision()


def suite_of(**marks):
    """Returns entries of a quadratic, some of which are for an accelerator."""
    entry = suites.SUITES["smoke-v1"]["quadratic"]._replace(num_steps=STEPS)
    return {name: entry._replace(accelerator=x) for name, x in marks.items()}


def test_tasks_for_an_accelerator_are_left_out_where_there_is_none():
    lines = []
    found = judged(plain, suite=suite_of(fast=False, slow=True), say=lines.append)
    assert list(found.settings["tasks"]) == ["fast"]
    note = "slow is for an accelerator and was left out, as there is none; slow_"
    assert lines[0].startswith(note) and found.notes == (lines[0],)


@pytest.mark.parametrize("there", [True, False])
def test_tasks_for_an_accelerator_run_where_there_is_one_or_if_asked_for(
    monkeypatch, there
):
    monkeypatch.setattr(machine, "accelerated", lambda: there)
    suite = suite_of(fast=False, slow=True)
    found = judged(plain, suite=suite, slow_tasks=not there)
    assert list(found.settings["tasks"]) == ["fast", "slow"] and not found.notes


def test_a_suite_for_an_accelerator_alone_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="there is none: slow; slow_tasks=True runs"):
        judged(never, suite=suite_of(slow=True))


def test_results_say_how_large_tasks_are():
    (said,) = judged(plain).settings["tasks"].values()
    assert said["batch"] == {"examples": 4, "tokens": None}
    # Forward, and back to 3 x 4 weights: 2 operations for each of 4 examples.
    assert said["flops"] > 2 * (2 * 4 * 3 * 4) and said["params"] == 3 * 4


def never(*, num_steps):
    raise AssertionError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 2)}, "both for tuning and for reporting"),
        ({"seeds": ()}, "need trials and seeds"),
        ({"seeds": (1_000,)}, "one seed has no interval"),
        ({"looks": 3}, "multiple of 4"),
        ({"suite": {"toy": (family(), 10)}}, "10 steps of toy are no multiple"),
        ({"suite": "in-dist-v2"}, "Did you mean 'in-dist-v1'"),
        ({"reference": "adamw2"}, "unknown reference 'adamw2'"),
        ({"reference_lengths": (0,)}, "whole numbers from 1"),
        ({"tuning": TUNING._replace(protocol="gird")}, "Did you mean 'grid'"),
        ({"optimizers": {"mine": lambda: 3}}, "'mine' must be an Optax transformation"),
    ],
)
def test_mistakes_are_found_before_anything_runs(changes, message):
    with pytest.raises(ValueError, match=message):
        judged(**{"optimizers": {"mine": never}} | changes)


def test_a_full_disk_is_no_fault_of_the_optimizer_s_and_names_the_file(monkeypatch):
    begin = Store.__init__

    def small(self, path=None):
        begin(self, path)
        self.database.execute("PRAGMA max_page_count = 3")

    monkeypatch.setattr(Store, "__init__", small)
    with pytest.raises(disk.DiskFull, match="no room for .*trials.sqlite"):
        judged({"mine": plain})
