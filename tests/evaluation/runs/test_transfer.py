"""Tasks that grow are judged with what was tuned before they had grown."""

import functools
import itertools

import numpy as np
import pytest

from evaluation import evaluate
from evaluation.runs import cells
from evaluation.runs.tuning import METRICS, Tuning
from evaluation.scores import standings
from lopt.baselines import BASELINES
from tasks import suites
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
    made = {False: judge(tuning=TUNING._replace(transfer=False), **arguments)}
    names = {BASELINES[name].build: name for name in ("muadam", "sgdm")}
    tuned, real = [], cells.tuned

    def noted(stand, num_steps, *rest):
        who = names.get(stand.contender.baseline.build)
        tuned.append((who, stand.place.name, num_steps))
        return real(stand, num_steps, *rest)

    patch.setattr(cells, "tuned", noted)
    yield made | {True: judge(tuning=TUNING, **arguments), "tuned": tuned}
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


def test_the_reference_s_longer_runs_have_a_choice_of_their_own(found):
    # Tuned at the base over twice the steps, as the longer task is by itself.
    twice = found[True].cell("muadam", "teacher_student-stepsx1").longer[2]
    alone = found[False].cell("muadam", "teacher_student-stepsx2").best("final").curves
    np.testing.assert_allclose(twice.train, alone.train, rtol=1e-5)
    # So muAdam is tuned over each length, at the bases alone; SGD over one.
    bases = [f"teacher_student-{axis}x1" for axis in ("width", "steps")]
    for name, lengths in {"muadam": (8, 16), "sgdm": (8,)}.items():
        at = {(place, steps) for who, place, steps in found["tuned"] if who == name}
        assert at == {*itertools.product(bases, lengths)}
    cell = found[True].cell("muadam", "teacher_student-widthx2")
    assert cell.longer[2].train.shape[-1] == 16
    assert np.isfinite(standings.standings(found[True])["sgdm"].speedup.value)
