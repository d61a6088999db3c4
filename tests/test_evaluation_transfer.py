"""Tasks that grow are judged with what was tuned before they had grown."""

import functools

import numpy as np
import pytest

from evaluation import evaluate, standings
from evaluation.tuning import METRICS, Tuning
from tasks import entries, suites
from tasks.suites import Line

TUNING = Tuning("search", 3, (0, 1), transfer=True)
TEACHER = suites.TEACHER | {"width": 4, "base_width": 4, "batch_size": 4}
LINES = (
    Line("teacher_student", TEACHER, "width", (2,), 8),
    Line("teacher_student", TEACHER, "steps", (2,), 8),
)


@pytest.fixture(scope="module")
def found():
    """Returns muAdam and SGD on a task, twice as wide, and twice as long."""
    patch = pytest.MonkeyPatch()
    tasks = {name: x for line in LINES for name, x in line.entries().items()}
    patch.setitem(suites.LINES, "tiny", LINES)
    patch.setitem(suites.SUITES, "tiny", tasks)
    judge = functools.partial(
        evaluate, {"muadam": "muadam", "sgdm": "sgdm"}, "tiny", (3, 5)
    )
    arguments = {"reference": "muadam", "looks": 4, "say": lambda line: None}
    yield {
        transfer: judge(tuning=TUNING._replace(transfer=transfer), **arguments)
        for transfer in (True, False)
    }
    patch.undo()


def choices(results, name, task):
    cell = results.cell(name, task)
    return {metric: cell.chosen[metric].choice.hyperparameters for metric in METRICS}


@pytest.mark.parametrize("name", ["muadam", "sgdm"])
@pytest.mark.parametrize("axis", ["width", "steps"])
def test_choices_are_those_of_the_task_that_it_grew_from(found, name, axis):
    base, grown = (f"teacher_student-{axis}x{n}" for n in (1, 2))
    assert choices(found[True], name, grown) == choices(found[True], name, base)
    # By itself the task would have chosen otherwise, for one metric at least.
    alone = [
        choices(found[False], x, f"teacher_student-{y}x2")
        for x in ("muadam", "sgdm")
        for y in ("width", "steps")
    ]
    moved = [
        choices(found[True], x, f"teacher_student-{y}x2")
        for x in ("muadam", "sgdm")
        for y in ("width", "steps")
    ]
    assert alone != moved


def test_tasks_at_factor_one_take_part_only_in_transfer(found):
    assert [*found[True].settings["tasks"]] == [
        "teacher_student-widthx1",
        "teacher_student-stepsx1",
        "teacher_student-widthx2",
        "teacher_student-stepsx2",
    ]
    assert len(found[False].settings["tasks"]) == 2


def test_trials_of_another_task_are_not_those_of_a_grown_one(found):
    cells = {x.task: x for x in found[True].cells if x.optimizer == "sgdm"}
    assert cells["teacher_student-widthx1"].tried.valid.shape[:2] == (3, 2)
    assert cells["teacher_student-widthx2"].tried is None


def test_growth_is_told_to_reports(found):
    growth = found[True].settings["tasks"]["teacher_student-widthx2"]["growth"]
    assert growth == {
        "line": "teacher_student width",
        "factor": 2,
        "base": "teacher_student-widthx1",
    }
    params = [x["params"] for x in found[True].settings["tasks"].values()]
    assert params[2] > params[0] == params[1] == params[3]


def test_the_reference_s_longer_runs_keep_its_choice_too(found):
    cell = found[True].cell("muadam", "teacher_student-widthx2")
    assert cell.longer[2].train.shape[-1] == 16
    assert np.isfinite(standings.standings(found[True])["sgdm"].speedup.value)


@pytest.mark.slow
def test_the_reference_of_a_wider_task_may_be_the_one_under_mup():
    args = entries.DIGITS_MLP | {"width": 16, "base_width": 4, "batch_size": 4}
    grown = {"wide": suites.Entry("mlp", args, 8)}
    own = TUNING._replace(transfer=False)
    judge = functools.partial(
        evaluate, suite=grown, seeds=(3, 5), tuning=own, looks=4, say=lambda line: None
    )
    apart = judge({"adam": "adam", "muadam": "muadam"}, reference=None)
    scores = {
        name: apart.cell(name, "wide").best("valid").choice.score
        for name in ("adam", "muadam")
    }
    better = min(scores, key=scores.get)
    assert scores["adam"] != scores["muadam"]
    found = judge({"sgdm": "sgdm"}, reference="adam")
    ours, theirs = found.cell("adam", "wide"), apart.cell(better, "wide")
    np.testing.assert_array_equal(
        ours.best("final").curves.train, theirs.best("final").curves.train
    )
    assert any("adam on wide is muadam" in x for x in found.notes) == (
        better == "muadam"
    )
