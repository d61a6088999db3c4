"""Panels: where their lines run and end, against the numbers that they show."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from results import SEEDS, STEPS, changed, diverged, failed
from results import results as toy

from common.canvas import LIGHT
from evaluation.report import page, panels, style
from evaluation.report.summary import summary
from evaluation.scores import time_to_target


def drawn(draw, optimizers=None):
    """Returns axes with a panel on them, and its lines by name."""
    axes = Figure().subplots()
    draw(axes, style.styles(optimizers or toy().settings["optimizers"], LIGHT))
    lines = {line.get_label(): line for line in axes.lines}
    return axes, {name: x for name, x in lines.items() if not name.startswith("_")}


def test_what_failed_is_in_no_picture_and_its_words_say_so():
    found = summary(failed(toy(), "mine"))
    speedups = panels.speedups(found.standings, found.settings["reference"])
    for draw in (speedups, panels.ratios(found)):
        labels = [x.get_text() for x in drawn(draw)[0].get_yticklabels()]
        assert "mine" not in labels and "sgdm" in labels
    said = page.page(failed(toy(), "mine"), found)
    assert "mine failed, adam 1.00" in said


@pytest.mark.parametrize("split, offset", [("train", 0.0), ("valid", 0.1)])
def test_lines_are_means_over_seeds(split, offset):
    lines = drawn(panels.curves(toy(), "bowl", split))[1]
    assert lines.keys() == {"mine", "adam"}  # sgdm failed
    start = 1 + np.mean(SEEDS) / 10
    first = start * (1 if split == "valid" else 2**-0.5) + offset
    assert lines["adam"].get_ydata()[0] == pytest.approx(first)
    assert lines["adam"].get_xdata()[-1] == STEPS


@pytest.mark.parametrize("split, metric", [("train", "final"), ("valid", "valid")])
def test_lines_are_of_what_was_tuned_for_them(split, metric):
    found = changed(
        toy(),
        "adam",
        "bowl",
        lambda x: x._replace(train=x.train + 1, valid=x.valid + 1),
    )
    cells = [
        x._replace(chosen=x.chosen | {metric: toy().cell("adam", "bowl").best(metric)})
        if (x.optimizer, x.task) == ("adam", "bowl")
        else x
        for x in found.cells
    ]
    draws = [
        panels.curves(one, "bowl", split)
        for one in (toy(), found._replace(cells=tuple(cells)))
    ]
    expected, line = (drawn(draw)[1]["adam"].get_ydata() for draw in draws)
    np.testing.assert_array_equal(line, expected)


def test_a_line_ends_where_a_run_diverges():
    line = drawn(panels.curves(toy(), "mlp-widthx2", "train"))[1]["sgdm"]
    ends = np.isfinite(line.get_ydata())
    assert ends.tolist() == [True] * (STEPS // 2) + [False] * (STEPS // 2)


@pytest.mark.parametrize("shift, scale", [(0.0, "log"), (-1.0, "linear")])
def test_the_scale_is_logarithmic_where_all_losses_are_positive(shift, scale):
    found = changed(toy(), "mine", "bowl", lambda x: x._replace(train=x.train + shift))
    assert drawn(panels.curves(found, "bowl", "train"))[0].get_yscale() == scale


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.filterwarnings("error")
def test_runs_that_blow_up_leave_a_picture_of_the_others(value):
    found = diverged(toy(), "mine", "bowl", seeds=[0, 1, 2], value=value)
    low, high = drawn(panels.curves(found, "bowl", "train"))[0].get_ylim()
    assert low < 0.3 < high < 30


def test_profiles_are_shares_of_tasks():
    times = {"steps": np.array([[10.0, 10.0, np.inf], [15.0, 5.0, np.inf]])}
    pool = time_to_target.Pool(["a", "b"], ["x", "y", "z"], times)
    known = {name: {"baseline": True} for name in "ab"}
    lines = drawn(panels.profile(pool, "steps"), known)[1]
    for name, solved in (("a", [(1.0, 1), (2.0, 2)]), ("b", [(1.0, 1), (1.5, 2)])):
        line = dict(zip(*lines[name].get_data(), strict=True))
        assert [line[tau] for tau, _ in solved] == [count / 3 for _, count in solved]
        assert lines[name].get_drawstyle() == "steps-post"


def test_growth_is_drawn_against_its_factor_and_divergence_at_the_edge():
    axes, lines = drawn(panels.growth(toy(), "mlp width"))
    assert lines["adam"].get_xdata().tolist() == [1, 2]
    assert axes.get_xscale() == "log"
    assert np.isnan(lines["sgdm"].get_ydata()).tolist() == [False, True]
    edge = [x for x in axes.lines if x.get_linestyle() == "None" and len(x.get_xdata())]
    (mark,) = edge
    assert mark.get_ydata().tolist() == [1.0] and mark.get_xdata()[0] >= 2
