"""Numbers of a summary against closed forms, and against loops."""

import statistics as stdlib

import numpy as np
import pytest
from results import SEEDS, STEPS, TASKS, losses, results_summary, row
from results import results as toy

from evaluation import statistics
from evaluation.report.summary import summary


def test_speedups_are_steps_of_the_reference_over_the_candidates():
    target = losses("sgdm", SEEDS[0])[-1]
    steps = 1 + next(
        i for i, x in enumerate(losses("adam", SEEDS[0], 2 * STEPS)) if x <= target
    )
    assert row("sgdm", TASKS[0]).speedup.value == pytest.approx(steps / STEPS)
    mine = row("mine", TASKS[0]).speedup
    assert (mine.value, mine.censored) == (2.0, len(SEEDS))


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_control_takes_the_better_of_the_trials_and_the_defaults(share):
    ours, theirs = ([losses(x, s)[-1] for s in SEEDS] for x in ("mine", "adam"))
    expected = share * theirs[0]  # of three trials' time, in which both are tried
    finals = np.array([[2.0, 2.0], [1.0, 1.0]]) * expected
    cells = [
        x._replace(tried=x.tried._replace(values=x.tried.values | {"final": finals}))
        if x.optimizer == "adam"
        else x
        for x in toy().cells
    ]
    control = summary(toy()._replace(cells=tuple(cells))).control
    (one,) = [x for x in control if x.baseline == "adam"]
    logs = np.log(ours) - np.log(np.minimum(theirs, expected))
    ratio = np.exp(statistics.iqm(np.tile(logs, len(TASKS))))
    assert one.trials == pytest.approx(3) and one.candidate == "mine"
    assert one.loss_ratio.value == pytest.approx(ratio)


def test_candidates_are_compared_with_the_baseline_that_does_best():
    found = {(x.task, x.metric): x for x in results_summary().comparisons}
    assert {x.baseline for x in found.values()} == {"adam"}
    gaps = [losses("mine", seed)[-1] - losses("adam", seed)[-1] for seed in SEEDS]
    difference = found[TASKS[0], "final"].difference.value
    assert difference == pytest.approx(stdlib.fmean(gaps))
