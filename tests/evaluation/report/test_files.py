import errno
import functools
import io
import json
import os
import re
import statistics as stdlib
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from places import ROOT
from results import (
    ERROR,
    RATES,
    SEEDS,
    STEPS,
    TASKS,
    diverged,
    failed,
    renamed,
)
from results import results as toy
from rich.console import Console

from common import command_line, disk
from evaluation import __main__ as command
from evaluation import report, statistics
from evaluation.report import tables, text, wording
from evaluation.report.content import plain
from evaluation.report.markdown import markdown
from evaluation.report.page import PROTOCOLS
from evaluation.report.summary import summary
from evaluation.runs import results, tuning
from evaluation.runs.store import opened
from evaluation.scores import budgets


@functools.cache
def said():
    return summary(toy())


@functools.cache
def written():
    """Returns a directory with the report of the toy evaluation."""
    directory = Path(tempfile.mkdtemp())
    console = Console(file=io.StringIO())
    report.write(toy(), directory, config={"a": 1}, console=console)
    return directory


def reported():
    return json.loads((written() / "results.json").read_text())


def row(optimizer, task, found=None):
    rows = (found or said()).tasks[task].rows
    return next(x for x in rows if x.optimizer == optimizer)


def losses(optimizer, seed, steps=STEPS):
    """Returns training losses in closed form, smoothed as a loop."""
    mean, found = 0.0, []
    for step in range(1, steps + 1):
        raw = (1 + seed / 10) * (1 + RATES[optimizer] * step) ** -0.5
        mean = 0.9 * mean + 0.1 * raw
        found.append(mean / (1 - 0.9**step))
    return found


def shown(**options):
    """Returns the lines on a console."""
    stream = io.StringIO()
    report.show(said(), Console(file=stream, highlight=False, **options))
    return stream.getvalue().splitlines()


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


def test_speedups_are_steps_of_the_reference_over_the_candidates():
    target = losses("sgdm", SEEDS[0])[-1]
    steps = 1 + next(
        i for i, x in enumerate(losses("adam", SEEDS[0], 2 * STEPS)) if x <= target
    )
    assert row("sgdm", TASKS[0]).speedup.value == pytest.approx(steps / STEPS)
    mine = row("mine", TASKS[0]).speedup
    assert (mine.value, mine.censored) == (2.0, len(SEEDS))


def test_loss_ratios_are_geometric_means_of_pairs():
    ratio = losses("mine", SEEDS[0])[-1] / losses("adam", SEEDS[0])[-1]
    assert reported()["standings"]["mine"]["loss_ratio"]["value"] == pytest.approx(
        ratio
    )


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
    found = {(x.task, x.metric): x for x in said().comparisons}
    assert {x.baseline for x in found.values()} == {"adam"}
    gaps = [losses("mine", seed)[-1] - losses("adam", seed)[-1] for seed in SEEDS]
    difference = found[TASKS[0], "final"].difference.value
    assert difference == pytest.approx(stdlib.fmean(gaps))


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


def searched(found):
    """Returns results whose Adam had five trials, of which the best come late."""
    finals = {  # means over two seeds, and one trial that diverged
        TASKS[0]: [[4, 4], [2, 2], [3, 3], [1, 3], [0.5, 1.5]],
        TASKS[1]: [[9, np.inf], [8, 8], [9, 9], [9, 9], [4, 4]],
        TASKS[2]: [[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]],
    }
    cells = [
        x._replace(tried=x.tried._replace(values={"final": np.array(finals[x.task])}))
        if x.optimizer == "adam"
        else x
        for x in found.cells
    ]
    adam = found.settings["optimizers"]["adam"] | {"trials": 5, "sequential": True}
    optimizers = found.settings["optimizers"] | {"adam": adam}
    settings = found.settings | {"optimizers": optimizers}
    return found._replace(cells=tuple(cells), settings=settings)


def test_a_report_says_what_the_last_doubling_of_trials_brought():
    spent = budgets.budgets(searched(toy()))
    # The limit of a ratio, 100, counts where no trial has ended as yet.
    ratios = [[4, 2, 2, 2, 1], [100, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
    expected = np.prod(ratios, axis=0) ** (1 / 3)
    assert spent["adam"].by_trials == pytest.approx(list(expected))
    assert spent["adam"].last_doubling == pytest.approx(1 - 1 / 4 ** (1 / 3))
    assert spent["sgdm"].by_trials is spent["mine"].last_doubling is None
    text = markdown(summary(searched(toy())))
    assert "took off the final training loss, on the tuning seeds: adam 37 %." in text
    assert "took off" not in markdown(said())


def test_the_reference_pays_for_its_twin_and_for_every_length():
    own = toy()
    grown = own.settings["tasks"]["mlp-widthx2"] | {"twin": "muadam"}
    tasks = own.settings["tasks"] | {"mlp-widthx2": grown}
    for transfer, places in (False, 4), (True, 3):
        how = own.settings["tuning"] | {"transfer": transfer}
        settings = own.settings | {"tasks": tasks, "tuning": how}
        spent = budgets.budgets(own._replace(settings=settings))
        # Of three tasks, one has grown, and is tuned on where it grew from.
        assert spent["adam"].tuning_steps == places * 2 * 2 * STEPS * 3
        assert spent["sgdm"].tuning_steps == (2 if transfer else 3) * 2 * 2 * STEPS


def test_the_evaluation_itself_is_kept():
    back = results.load(written())
    assert summary(back) == said()
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


def test_off_a_terminal_there_are_aligned_columns_a_row_for_each_optimizer():
    lines = shown(width=40)
    assert lines[0].split("  ")[0] == "optimizer"
    places = [lines[0].index(x) for x in ("speed-up in steps", "final loss ratio")]
    for name, line in zip(RATES, lines[1:4], strict=True):
        assert line.startswith(f"{name} ")
        assert all(line[x - 2 : x] == "  " and line[x] != " " for x in places)
    assert lines[1][places[0] :].startswith("≥ 2.00 [2.00, 2.00] 100 % censored")
    assert max(map(len, lines[:9])) <= text.WIDTH
    assert not re.search("[\x1b─│]", "\n".join(lines))


def test_what_does_not_fit_beside_follows_below_with_all_names():
    lines = shown(width=40)
    blank = lines.index("")
    assert [x.split()[0] for x in lines[blank + 1 : blank + 5]] == [
        "optimizer",
        *RATES,
    ]
    assert "2 trials × 2 seeds a task" in lines[blank + 3]


def test_off_a_terminal_the_verdict_is_last_a_line_for_each_sentence():
    (one,) = said().verdict
    assert shown(width=40)[-3:] == [one.headline, *one.rest]


def test_on_a_terminal_sentences_break_between_words():
    lines = shown(width=40, force_terminal=True, no_color=True)
    bare = [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in lines]
    (one,) = said().verdict
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


def test_a_failed_cell_is_named_where_its_numbers_would_be():
    lines = {line.name: line for line in tables.task(said(), "bowl").lines}
    assert lines["sgdm"].error == ERROR and not lines["sgdm"].fields
    assert lines["adam"].error is None
    standing = {line.name: line for line in tables.standings(said()).lines}["sgdm"]
    assert ("failed: bowl",) in [field.notes for field in standing.fields]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_divergence_is_counted_and_never_a_number(value):
    found = summary(diverged(toy(), "mine", "bowl", seeds=[0, 2], value=value))
    json.dumps(plain(found), allow_nan=False)
    table = tables.task(found, "bowl")
    fields = dict(zip(table.columns, table.lines[0].fields, strict=True))
    assert fields["final training loss"].text == "2 of 3 diverged"
    assert fields["test loss"].text == "2 of 3 diverged"
    assert fields["diverged"].text == "seed 5, seed 7"
    assert not re.search(r"\b(nan|inf)\b", markdown(found))


def test_five_measures_decide_and_all_others_are_elsewhere():
    assert tables.standings(said()).columns == [
        "speed-up in steps",
        "speed-up in seconds",
        "final loss ratio",
        "test loss ratio",
        "diverged or failed",
    ]
    assert len(tables.others(said()).columns) == 7


@pytest.mark.parametrize(
    "column, best",
    [
        ("speed-up in steps", ["mine"]),
        ("speed-up in seconds", ["adam"]),  # mine takes three times as long a step
        ("final loss ratio", ["mine"]),
        ("P(lower test loss)", ["mine"]),
        ("peak memory", []),
    ],
)
def test_the_lowest_of_losses_and_the_highest_of_others_are_marked(column, best):
    for table in (tables.standings(said()), tables.others(said())):
        if column in table.columns:
            i = table.columns.index(column)
            assert [x.name for x in table.lines if x.fields[i].best] == best


def test_candidates_come_first():
    settings = toy().settings
    turned = dict(reversed(settings["optimizers"].items()))
    found = summary(toy()._replace(settings=settings | {"optimizers": turned}))
    for table in (tables.standings(found), tables.task(found, "bowl")):
        assert [line.name for line in table.lines] == ["mine", "sgdm", "adam"]
        assert [line.candidate for line in table.lines] == [True, False, False]


@pytest.mark.parametrize("censored, words_", [(0.25, ""), (0.26, "at least ")])
def test_a_speedup_is_a_bound_where_more_than_the_trimmed_quarter_is_censored(
    censored, words_
):
    one = said().standings["mine"]._replace(censored=censored, censored_constant=1.0)
    assert wording.least(one) == wording.least(one, "speedup_seconds") == words_
    assert wording.least(one, "speedup_constant") == "at least "
    one = one._replace(censored=1.0, censored_constant=censored)
    assert wording.least(one, "speedup_constant") == words_
    assert wording.least(one, "loss_ratio") == ""


def test_markdown_has_standings_tasks_and_protocol():
    text = markdown(said())
    assert "| final loss ratio | **0.586**<br>\\[0.586, 0.586\\] | 1.00<br>" in text
    assert text.index("diverged or failed") < text.index("<details>")
    assert text.index("<details>") < text.index("P(lower") < text.index("</details>")
    final, test = (row("mine", "bowl").metrics[m].value for m in ("final", "test"))
    assert f"| bowl | **{final:.3f}** / **{test:.3f}** | " in text
    assert "failed / failed |" in text and "ValueError: need &lt;one&gt; loss" in text
    assert "adam 2 trials × 2 seeds a task" in text


def test_rows_of_markdown_are_as_wide_as_their_heads():
    tables_ = [x for x in markdown(odd()).split("\n\n") if x.startswith("|")]
    for table in tables_:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert len(tables_) == 3


def odd():
    """Returns a summary with names that mean something to Markdown."""
    return summary(renamed(toy(), {name: f"*{name}|<b>" for name in RATES}))


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


def test_markdown_says_when_and_by_what_it_was_made():
    lines = markdown(said()).splitlines()
    assert lines[0] == "## Optimizers on toy-v1"
    assert lines[2] == "toy-v1: 3 tasks × 3 seeds, 2026-11-27."
    assert "- By: python -m evaluation '--a=b c'" in lines
    assert any("jax" in line and "optax" in line for line in lines[-2:])


def test_a_report_takes_a_title(tmp_path):
    console = Console(file=io.StringIO())
    found = report.write(toy(), tmp_path, title="Mine, <at last>", console=console)
    assert found.title == "Mine, <at last>"
    page = (tmp_path / "index.html").read_text()
    for tag in ("title", "h1"):
        assert f"<{tag}>Mine, &lt;at last&gt;</{tag}>" in page
    assert (tmp_path / "report.md").read_text().startswith("## Mine, &lt;at last&gt;\n")


def test_what_was_saved_before_days_were_kept_still_loads(tmp_path):
    results.save(toy(), tmp_path)
    cells = json.loads((tmp_path / "cells.json").read_text())
    del cells["made"]
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    back = results.load(tmp_path)
    assert back.made == {}
    text_ = markdown(summary(back))
    assert "toy-v1: 3 tasks × 3 seeds." in text_ and "Evaluated on" not in text_


def test_every_tuning_protocol_is_explained():
    assert PROTOCOLS.keys() == tuning.PROTOCOLS.keys()


EVALUATE = """
import runpy
c = runpy.run_path("configs/evaluate.py")["get_config"]("quick").unlock()
"""


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def evaluated(workdir, *flags, config="configs/evaluate.py:quick", **environment):
    command = [sys.executable, "-m", "evaluation", f"--workdir={workdir}"]
    command += [f"--config={config}", *flags]
    given = {"cwd": ROOT, "env": os.environ | environment, "encoding": "utf-8"}
    return subprocess.run(command, capture_output=True, **given)


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Returns the command line's main, which leaves this process as it is."""
    given = SimpleNamespace(workdir=str(tmp_path), config={})
    monkeypatch.setattr(command, "flags", SimpleNamespace(FLAGS=given))
    monkeypatch.setattr(command_line, "catch", lambda line: None)
    monkeypatch.setattr(command.jax.config, "update", lambda *_: None)
    return lambda: command.main([""])


def test_a_second_evaluation_in_a_work_directory_is_refused(main, tmp_path):
    busy = pytest.raises(SystemExit, match=f"error: {tmp_path} is in use by process ")
    with disk.held(tmp_path), busy:
        main()


def test_a_full_disk_ends_it_with_what_is_kept(main, monkeypatch, tmp_path):
    def full(*_, **__):
        with disk.writing("x"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as store:
        store.put([({"seed": 1}, {}), ({"seed": 2}, {})])
    monkeypatch.setattr(command.settings, "call", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == (
        "error: the disk is full: no room for x; 2 runs are kept in "
        f"{tmp_path}/trials.sqlite, and the same command goes on."
    )


def test_the_command_line_writes_a_report_whatever_the_locale(tmp_path):
    done = evaluated(
        tmp_path, "--config.optimizers=adam", "--config.title=A b", **ASCII
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "results.json", "curves.png", "index.html"}
    assert "4 trials ? 2 seeds a task" in done.stdout
    markdown_ = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "4 trials × 2 seeds" in markdown_ and markdown_.startswith("## A b\n")
    made = results.load(tmp_path).made["command"]
    assert made.startswith("python -m evaluation --workdir=") and "'--co" in made


@pytest.mark.parametrize(
    "flag, words_",
    [
        ("--config.optimizers=adam,admw", "'admw'"),
        ("--config.reference=sgd", "unknown reference 'sgd'"),
        ("--config.optimisers=adam", "optimisers"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, flag, words_):
    done = evaluated(tmp_path, flag)
    assert done.returncode == 1
    assert words_ in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not any(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    "edit, words_",
    [
        ("c.tuning.trails = 4", "config.tuning has no key 'trails'; did you mean 'tri"),
        ("c.seed = (1, 2)", "no key 'seed'; did you mean 'seeds'"),
        ("del c.suite", "config lacks the key 'suite'; set config.suite."),
    ],
)
def test_a_config_of_wrong_keys_is_refused(tmp_path, edit, words_):
    config = tmp_path / "config.py"
    config.write_text(f"{EVALUATE}\ndef get_config():\n  {edit}\n  return c")
    done = evaluated(tmp_path, config=config)
    assert done.returncode == 1
    assert words_ in done.stderr and "Traceback" not in done.stderr
    assert not any(tmp_path.glob("*.json"))
