"""Files of a report, what a console shows of it, and reports of what failed."""

import functools
import io
import json
import re
import statistics as stdlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from results import (
    ERROR,
    RATES,
    SEEDS,
    STEPS,
    TASKS,
    failed,
    losses,
    results_summary,
    shown,
)
from results import results as toy
from rich.console import Console

from evaluation import report
from evaluation.report import tables
from evaluation.report.summary import summary
from evaluation.runs import results


@functools.cache
def written():
    """Returns a directory with the report of the toy evaluation."""
    directory = Path(tempfile.mkdtemp())
    console = Console(file=io.StringIO())
    report.write(toy(), directory, config={"a": 1}, console=console)
    return directory


def reported():
    return json.loads((written() / "results.json").read_text())


@pytest.mark.parametrize("optimizer", RATES)
def test_results_hold_the_final_losses_of_every_seed(optimizer):
    found = next(
        x for x in reported()["tasks"][TASKS[0]]["rows"] if x["optimizer"] == optimizer
    )
    expected = [losses(optimizer, seed)[-1] for seed in SEEDS]
    one = found["metrics"]["final"]
    assert one["values"] == pytest.approx(expected)
    assert one["value"] == pytest.approx(stdlib.fmean(expected))
    assert one["low"] <= one["value"] <= one["high"]


def test_loss_ratios_are_geometric_means_of_pairs():
    ratio = losses("mine", SEEDS[0])[-1] / losses("adam", SEEDS[0])[-1]
    assert reported()["standings"]["mine"]["loss_ratio"]["value"] == pytest.approx(
        ratio
    )


def test_results_state_budget_seeds_config_and_versions():
    found = reported()
    steps = 2 * 2 * STEPS * len(TASKS)  # trials and seeds
    spent = {"trials": 2, "tuning_seeds": 2, "reporting_seeds": 3}
    spent |= dict.fromkeys(["by_trials", "last_doubling"])
    assert found["budget"]["sgdm"] == spent | {"tuning_steps": steps}
    assert found["budget"]["adam"] == spent | {"tuning_steps": 3 * steps}
    assert found["budget"]["mine"]["trials"] == 0
    assert found["settings"]["seeds"] == list(SEEDS) and found["config"] == {"a": 1}
    assert found["environment"]["jax"] and found["seconds"]["compile"] == 2.0


def test_the_evaluation_itself_is_kept():
    back = results.load(written())
    assert summary(back) == results_summary()
    own = back.cell("adam", "bowl").chosen["final"].curves
    np.testing.assert_array_equal(
        own.train, toy().cell("adam", "bowl").chosen["final"][1][0]
    )


def test_all_files_are_there():
    names = {path.name for path in written().iterdir()}
    assert names == {
        *results.FILES,
        "results.json",
        "curves.png",
        "report.md",
        "index.html",
    }
    assert (written() / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_off_a_terminal_the_verdict_is_last_a_line_for_each_sentence():
    (one,) = results_summary().verdict
    assert shown(width=40)[-3:] == [one.headline, *one.rest]


def test_on_a_terminal_sentences_break_between_words():
    lines = shown(width=40, force_terminal=True, no_color=True)
    bare = [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in lines]
    (one,) = results_summary().verdict
    start = next(i for i, x in enumerate(bare) if x.startswith("mine is at least"))
    assert max(map(len, bare[start:])) <= 40
    assert " ".join(bare[start:]) == " ".join([one.headline, *one.rest])


def test_on_a_terminal_there_is_a_table_with_the_budget():
    lines = "\n".join(shown(width=120, force_terminal=True, no_color=True))
    assert "─" in lines and "final loss ratio" in lines
    assert "2 trials × 2 seeds a task" in lines


def test_failures_and_warnings_are_shown():
    lines = shown(width=40)
    assert f"sgdm on bowl failed: {ERROR}" in lines
    assert "sgdm on mlp-widthx2 diverged: seed 7" in lines
    assert "warning: a note" in lines


@pytest.mark.parametrize("optimizer", RATES)
def test_an_optimizer_that_fails_everywhere_leaves_a_report(optimizer, tmp_path):
    found = failed(toy(), optimizer)
    report.write(found, tmp_path, console=Console(file=io.StringIO()))
    back = json.loads((tmp_path / "results.json").read_text())
    assert back["standings"][optimizer]["diverged"] == 1
    assert f"{optimizer} on bowl failed" in (tmp_path / "report.md").read_text()


def test_without_a_reference_there_are_no_comparisons_with_one(tmp_path):
    found = toy()._replace(settings=toy().settings | {"reference": None})
    report.write(found, tmp_path, console=Console(file=io.StringIO()))
    table = tables.standings(summary(found))
    assert table.columns[0] == "AlgoPerf score, tuned"
    assert tables.others(summary(found)).columns[0] == "time of a step"
    assert "None" not in (tmp_path / "report.md").read_text()


def test_a_report_takes_a_title(tmp_path):
    console = Console(file=io.StringIO())
    found = report.write(toy(), tmp_path, title="Mine, <at last>", console=console)
    assert found.title == "Mine, <at last>"
    page = (tmp_path / "index.html").read_text()
    for tag in ("title", "h1"):
        assert f"<{tag}>Mine, &lt;at last&gt;</{tag}>" in page
    assert (tmp_path / "report.md").read_text().startswith("## Mine, &lt;at last&gt;\n")
