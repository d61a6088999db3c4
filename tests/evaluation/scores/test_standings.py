"""Optimizers of known speed get the scores that follow from it, to the digit."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from results import TASKS, curves, diverged, with_adam
from results import results as toy
from roads import LOOKS, SEEDS, STEPS, moving, road

from evaluation import evaluate, statistics
from evaluation.report import summary
from evaluation.report.content import plain
from evaluation.runs import tuning
from evaluation.runs.results import Chosen
from evaluation.runs.tuning import METRICS, Tuning
from evaluation.scores import standings

SPEEDS = {"slow": 1.0, "double": 2.0, "fourfold": 4.0, "half": 0.5, "quarter": 0.25}


@functools.cache
def found():
    """Returns optimizers of known speed on two roads; `slow` is the reference."""
    optimizers = {name: moving(speed) for name, speed in SPEEDS.items()}
    optimizers["lost"] = moving(jnp.nan)
    results = evaluate(
        optimizers,
        {name: (road(name, n), STEPS) for name, n in (("short", 10), ("long", 40))},
        SEEDS,
        tuning=Tuning("none", 1, (0,)),
        reference="slow",
        looks=LOOKS,
        say=lambda line: None,
    )
    # Targets are what `slow` reaches in 3/4 of its steps.
    cells = [
        x._replace(aims=x.chosen["default"].curves.valid[0, :, LOOKS * 3 // 4])
        if x.optimizer == "slow"
        else x
        for x in results.cells
    ]
    return results._replace(cells=tuple(cells))


@pytest.fixture(autouse=True)
def unsmoothed(monkeypatch):
    """Leaves out the moving average, whose lag is not scaled with time."""
    monkeypatch.setattr(standings, "DECAY", 0.0)


def ranked():
    return standings.standings(found())


@pytest.mark.parametrize("name", ["slow", "double", "half", "quarter"])
def test_speed_ups_are_the_known_ones(name):
    one = ranked()[name]
    assert one.speedup == pytest.approx([SPEEDS[name]] * 3)
    assert one.censored == 0


def test_what_the_reference_never_reaches_is_censored_at_its_greatest_length():
    one = ranked()["fourfold"]
    assert one.speedup == pytest.approx([2.0] * 3) and one.censored == 1


@pytest.mark.parametrize("name", SPEEDS)
def test_loss_ratios_are_the_known_ones(name):
    # Roads halve the loss every 10 and every 40; two tasks are too few to trim.
    logs = [-(SPEEDS[name] - 1) * STEPS / n * np.log(2) for n in (10, 40)]
    expected = np.exp(np.clip(logs, -np.log(100), np.log(100)).mean())
    assert ranked()[name].loss_ratio.value == pytest.approx(expected, rel=1e-5)
    assert ranked()[name].test_ratio.value == pytest.approx(expected, rel=1e-5)


def test_the_faster_always_improves_and_the_slower_never():
    chances = {name: ranked()[name].improvement.value for name in SPEEDS}
    better = {name: float(speed > 1) for name, speed in SPEEDS.items()}
    # Seeds have other heights, so a run beats some of another seed by that alone.
    assert chances["slow"] == pytest.approx(0.5)
    assert all((chances[x] > 0.5) == (better[x] == 1) for x in SPEEDS if x != "slow")


def test_algoperf_s_score_follows_from_the_known_times():
    # Times to the target are 60, 30, 15 steps, a miss and a miss: 2 and 4 times the
    # fastest earn 2/3 and nothing.
    points = {x: one.algoperf["untuned"]["steps"] for x, one in ranked().items()}
    expected = {"fourfold": 1.0, "double": 2 / 3, "slow": 0.0, "half": 0, "quarter": 0}
    assert points == pytest.approx(expected | {"lost": 0.0})


def test_what_diverges_everywhere_has_no_score():
    one = ranked()["lost"]
    assert one.speedup is one.loss_ratio is one.improvement is one.test_ratio is None
    assert one.diverged == 1


def test_a_failed_cell_counts_as_diverged_on_every_seed():
    cells = [
        x._replace(error="ValueError: no", chosen={}, cost=None, tried=None)
        if (x.optimizer, x.task) == ("double", "long")
        else x
        for x in found().cells
    ]
    results = found()._replace(cells=tuple(cells))
    one = standings.standings(results)["double"]
    assert one.failed == ["long"] and one.diverged == 0.5
    # The interquartile mean of three runs at 2 and three at 1/80.
    logs = np.log([2.0] * 3 + [1 / STEPS] * 3)
    assert one.speedup.value == pytest.approx(np.exp(statistics.iqm(logs)))
    said = summary.summary(results)
    (row,) = [x for x in said.tasks["long"].rows if x.optimizer == "double"]
    assert plain(row) == {
        "optimizer": "double",
        "baseline": False,
        "error": "ValueError: no",
    }


def test_a_failed_reference_takes_its_task_out_of_comparisons():
    cells = [
        x._replace(error="ValueError: no")
        if (x.optimizer, x.task) == ("slow", "long")
        else x
        for x in found().cells
    ]
    results = found()._replace(cells=tuple(cells))
    assert standings.compared(results) == ["short"]
    assert standings.standings(results)["double"].speedup.value == pytest.approx(2)


def test_speed_ups_in_seconds_are_divided_by_what_a_step_costs():
    seconds = {"double": 4.0}
    cells = [
        x._replace(cost=x.cost._replace(seconds=seconds.get(x.optimizer, 1.0)))
        for x in found().cells
    ]
    one = standings.standings(found()._replace(cells=tuple(cells)))["double"]
    assert one.speedup == pytest.approx([2.0] * 3)
    assert one.speedup_seconds == pytest.approx([0.5] * 3) and one.step_ratio == 4


TUNED_FOR = {x: "valid" for x in ("valid", "test", "accuracy", "test_accuracy")}
TUNED_FOR |= {"mean": "mean", "final": "final", "best": "final"}
TUNED_FOR |= {"train_accuracy": "final"}


@pytest.mark.parametrize("metric", standings.REPORTED)
def test_a_metric_is_of_what_was_tuned_for_it(metric):
    own = {
        name: Chosen(None, curves(rate, labels=True))
        for rate, name in enumerate((*METRICS, "default"), 1)
    }
    alone = {"default": own[TUNED_FOR[metric]]}
    values = [
        standings.runs(with_adam(chosen=chosen), "adam", metric, [TASKS[0]])
        for chosen in (own, alone)
    ]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("metric", METRICS)
def test_a_run_has_diverged_whatever_it_was_tuned_for(metric):
    spoilt = diverged(toy(), "adam", TASKS[0], seeds=[1]).cell("adam", TASKS[0])
    own = toy().cell("adam", TASKS[0]).chosen | {metric: spoilt.chosen[metric]}
    found = with_adam(chosen=own)
    assert standings.finite(found.cell("adam", TASKS[0])).tolist() == [
        True,
        False,
        True,
    ]
    assert standings.standings(found)["adam"].diverged == pytest.approx(1 / 9)


def test_smoothing_draws_speed_ups_towards_one_and_never_past(monkeypatch):
    monkeypatch.setattr(standings, "DECAY", tuning.DECAY)
    assert 1.5 < ranked()["double"].speedup.value < 2
    assert 0.5 < ranked()["half"].speedup.value < 0.75


def test_the_verdict_says_what_is_known():
    headlines = [x.headline for x in summary.summary(found()).verdict]
    known = "double is 2.00 times as fast in steps as untuned slow [2.00, 2.00]."
    bound = "fourfold is at least 2.00 times as fast in steps as untuned slow"
    assert known in headlines and any(x.startswith(bound) for x in headlines)


def test_without_a_reference_there_is_no_comparison():
    settings = found().settings | {"reference": None}
    results = found()._replace(settings=settings)
    assert all(one.speedup is None for one in standings.standings(results).values())
    summary.summary(results)
