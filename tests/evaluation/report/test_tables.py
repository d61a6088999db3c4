"""Tables: which measures there are, in which order, and which numbers are bold."""

import json
import re

import numpy as np
import pytest
from results import ERROR, RATES, changed, diverged, failed, like_adam, results_summary
from results import results as toy

from evaluation.report import tables
from evaluation.report.content import plain
from evaluation.report.markdown import markdown
from evaluation.report.summary import summary


def test_a_failed_cell_is_named_where_its_numbers_would_be():
    lines = {line.name: line for line in tables.task(results_summary(), "bowl").lines}
    assert lines["sgdm"].error == ERROR and not lines["sgdm"].fields
    assert lines["adam"].error is None
    standing = {line.name: line for line in tables.standings(results_summary()).lines}[
        "sgdm"
    ]
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
    assert tables.standings(results_summary()).columns == [
        "speed-up in steps",
        "speed-up in seconds",
        "final loss ratio",
        "test loss ratio",
        "diverged or failed",
    ]
    assert len(tables.others(results_summary()).columns) == 7


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
    for table in (
        tables.standings(results_summary()),
        tables.others(results_summary()),
    ):
        if column in table.columns:
            i = table.columns.index(column)
            assert [x.name for x in table.lines if x.fields[i].best] == best


def test_sizes_are_of_a_step_and_for_each_parameter():
    found = {x.task: x.fields for x in tables.sizes(results_summary())}
    assert found == {
        "mlp-widthx1": ["10", "2,000 tokens in 4 examples", "200", "1,234"],
        "mlp-widthx2": ["10", "64 examples", "6.40", "1,234"],
        "bowl": ["10", "no examples", tables.NONE, "1,234"],
    }
    assert all(len(fields) == len(tables.SIZES) for fields in found.values())


def test_sizes_that_older_evaluations_do_not_say_are_dashes():
    settings = toy().settings
    older = {
        task: {k: x for k, x in said.items() if k not in ("batch", "flops")}
        for task, said in settings["tasks"].items()
    }
    found = summary(toy()._replace(settings=settings | {"tasks": older}))
    assert [x.fields for x in tables.sizes(found)] == 3 * [["10", *3 * [tables.NONE]]]


def test_candidates_come_first():
    settings = toy().settings
    turned = dict(reversed(settings["optimizers"].items()))
    found = summary(toy()._replace(settings=settings | {"optimizers": turned}))
    for table in (tables.standings(found), tables.task(found, "bowl")):
        assert [line.name for line in table.lines] == ["mine", "sgdm", "adam"]
        assert [line.candidate for line in table.lines] == [True, False, False]


def bold(table):
    """Returns {column: names in bold}."""
    return {
        column: [x.name for x in table.lines if x.fields and x.fields[i].best]
        for i, column in enumerate(table.columns)
    }


def test_equal_values_are_never_bold():
    found = like_adam(toy(), 1.0, 1.0, 1.0)
    marks = bold(tables.standings(summary(found)))
    assert marks.pop("speed-up in seconds") == ["adam"]  # whose steps take less time
    marks |= bold(tables.task(summary(found), "bowl"))
    assert not any(marks.values())


def test_values_whose_intervals_overlap_are_not_bold():
    # The toy's seeds have other heights: adam 1.5 to 1.7 times what one has.
    found = changed(toy(), "mine", "bowl", lambda x: x)
    close = like_adam(found, 0.95, 0.95, 0.95)
    marks = bold(tables.task(summary(close), "bowl"))
    assert marks["final training loss"] == []
    # Over the reference's, seed by seed, it is always lower.
    assert bold(tables.standings(summary(close)))["final loss ratio"] == ["mine"]


@pytest.mark.parametrize("optimizer", RATES)
def test_fields_of_what_failed_entirely_are_dashes(optimizer):
    found = summary(failed(toy(), optimizer))
    for table in (tables.standings(found), tables.others(found)):
        (line,) = (x for x in table.lines if x.name == optimizer)
        texts = dict(zip(table.columns, (x.text for x in line.fields), strict=True))
        assert texts.pop("diverged or failed", "100 %") == "100 %"
        assert {*texts.values()} == {tables.NONE}
