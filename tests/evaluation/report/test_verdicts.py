"""Headlines say no more than the numbers do."""

import pytest
from results import ERROR, SEEDS, TASKS, diverged, failed, like_adam
from results import results as toy

from evaluation.report import verdicts, wording
from evaluation.report.summary import summary
from evaluation.runs.results import Cell
from evaluation.statistics import Interval


def said(found):
    """Returns the one verdict on `mine`."""
    (one,) = verdicts.verdicts(summary(found))
    return one


def everywhere(found, change):
    """Returns results in which all of `mine` is changed."""
    for task in TASKS:
        found = change(found, task)
    return found


def on(found, tasks):
    """Returns results on some tasks alone."""
    kept = {name: x for name, x in found.settings["tasks"].items() if name in tasks}
    cells = tuple(x for x in found.cells if x.task in tasks)
    return found._replace(settings=found.settings | {"tasks": kept}, cells=cells)


def erring(found, errors):
    """Returns results in which `mine` fails on tasks, with these errors."""
    cells = [
        Cell("mine", x.task, errors[x.task])
        if x.optimizer == "mine" and x.task in errors
        else x
        for x in found.cells
    ]
    return found._replace(cells=tuple(cells))


def test_the_numbers_are_those_of_the_standings():
    one = said(toy())
    assert one.headline == (
        "mine is at least 2.00 times as fast in steps as tuned adam [2.00, 2.00]."
    )
    ratio = summary(toy()).standings["mine"].loss_ratio.value
    assert one.rest[0].startswith(f"Final training loss {ratio:.3f} times adam's [")
    assert "final training loss: 3 better;" in one.rest[1]


def test_what_failed_everywhere_has_a_sentence_and_no_number():
    one = said(failed(toy(), "mine"))
    assert one == (f"mine failed on all {len(TASKS)} tasks ({ERROR}).", [])


def test_what_diverged_everywhere_has_a_sentence_and_no_number():
    def spoilt(found, task):
        return diverged(found, "mine", task, seeds=[0, 1, 2])

    one = said(everywhere(toy(), spoilt))
    assert one == ("mine diverged in every run on all 3 tasks.", [])


def test_each_way_of_failing_is_named_with_its_tasks():
    found = erring(toy(), {TASKS[0]: "A: x.", TASKS[2]: f"B: {'y ' * 200}"})
    one = said(diverged(found, "mine", TASKS[1], seeds=[0, 1, 2]))
    assert one.headline.startswith(
        f"mine failed on {TASKS[0]} (A: x), diverged in every run on {TASKS[1]} and "
        f"failed on {TASKS[2]} (B: y y"
    )
    assert len(one.headline) < 400 and one.headline.endswith("y …).")


def test_what_failed_on_some_tasks_says_on_how_many_it_has_a_score():
    one = said(erring(toy(), {"bowl": ERROR}))
    speedup = summary(erring(toy(), {"bowl": ERROR})).standings["mine"].speedup
    assert f"{wording.number(speedup.value)} times as fast" in one.headline
    assert one.headline.endswith(
        "; it has a score on 2 of 3 tasks, and the least speed-up and 100 times the "
        "loss count on the others."
    )


def test_a_run_that_ends_on_each_task_is_a_score_on_all():
    found = everywhere(toy(), lambda x, task: diverged(x, "mine", task, seeds=[0]))
    assert "a score on" not in said(found).headline


def test_what_ran_only_where_the_reference_failed_has_no_number():
    cells = [
        x._replace(error=ERROR) if (x.optimizer, x.task) == ("adam", "bowl") else x
        for x in toy().cells
    ]
    errors = {task: ERROR for task in TASKS if task != "bowl"}
    one = said(erring(toy()._replace(cells=tuple(cells)), errors))
    assert one == ("mine has a score only where adam has none.", [])


def test_a_reference_that_failed_is_named_and_measures_nothing():
    first, second = verdicts.verdicts(summary(failed(toy(), "adam")))
    assert first.headline == f"adam failed on all 3 tasks ({ERROR})."
    assert second.headline.startswith("Lowest in test loss: mine on 3 of 3 tasks;")


def test_what_cannot_be_told_apart_is_called_so_with_its_interval():
    found = like_adam(toy(), 0.7, 1.0, 1.3)
    one = said(found)
    interval = summary(found).standings["mine"].speedup
    assert interval.low < 1 < interval.high
    assert one.headline == (
        "mine and tuned adam cannot be told apart in steps: "
        f"{wording.number(interval.value)} times as fast {wording.bounds(interval)}."
    )
    assert "Final training loss level, " in one.rest[0]
    assert "test loss level, " in one.rest[0]


def test_equal_ones_cannot_be_told_apart():
    one = said(like_adam(toy(), 1.0, 1.0, 1.0))
    assert "cannot be told apart in steps: 1.00 times as fast [1.00" in one.headline


def test_a_lower_bound_that_tells_nothing_apart_is_not_called_at_least():
    found = like_adam(toy(), 0.3, 0.3, 3.0)
    row = summary(found).standings["mine"]
    assert wording.least(row) and row.speedup.low < 1 < row.speedup.high
    one = said(found)
    assert "at least" not in one.headline and "cannot be told apart" in one.headline
    assert one.rest[1] == "67 % of its speed-ups are lower bounds."


def test_seconds_are_level_where_their_interval_holds_one():
    row = (
        summary(toy())
        .standings["mine"]
        ._replace(censored=0.0, speedup_seconds=Interval(1.1, 0.9, 1.3))
    )
    said = verdicts._in_seconds(row)
    assert said == "In seconds they are level: 1.10 times as fast [0.900, 1.30]."


@pytest.mark.parametrize("tasks, few", [(TASKS[:1], True), (TASKS[:2], False)])
def test_fewer_than_six_pairs_of_runs_tell_nothing(tasks, few):
    headline = said(on(toy(), tasks)).headline
    pairs = len(tasks) * len(SEEDS)
    start = f"{pairs} runs are too few to tell mine and tuned adam apart in steps: "
    assert headline.startswith(start) == few


def test_without_a_candidate_it_is_who_has_the_lowest_test_loss():
    settings = toy().settings
    known = {name: x | {"baseline": True} for name, x in settings["optimizers"].items()}
    one = said(toy()._replace(settings=settings | {"optimizers": known}))
    # On mlp tasks the intervals of mine and adam overlap.
    leads = [
        wording.leader(
            {x.optimizer: x.metrics["test"] for x in entry.rows if not x.error},
            -1,
        )
        for entry in summary(toy()).tasks.values()
    ]
    assert one.headline == (
        "Lowest in test loss: mine on 3 of 3 tasks; by more than the intervals on "
        f"{leads.count('mine')}."
    )
