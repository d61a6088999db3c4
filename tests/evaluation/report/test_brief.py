"""What results say of themselves at a prompt and in a notebook."""

import re

from results import RATES, failed, renamed
from results import results as toy

from evaluation.report import tables
from evaluation.report.summary import summary


def test_results_say_in_short_what_was_judged_and_the_verdict():
    lines = str(toy()).splitlines()
    headline = summary(toy()).verdict[0].headline
    assert lines[0] == "toy-v1: 3 tasks × 3 seeds, 2026-11-27; mine, adam, sgdm."
    assert lines[1] == headline and "report.write" in lines[2] and len(lines) == 3
    assert repr(toy()) == str(toy())
    assert "mine failed on all 3 tasks" in repr(failed(toy(), "mine"))


def test_results_stay_a_named_tuple():
    assert isinstance(toy(), tuple) and toy()._asdict()["seconds"]["total"] == 9.0


def test_notebooks_show_the_standings():
    shown = toy()._repr_html_()
    assert shown.count("<tr>") == 1 + len(RATES)
    table = tables.standings(summary(toy()))
    assert all(f">{column}</th>" in shown for column in table.columns)
    assert "<b>≥ 2.00</b>" in shown and "[0.586, 0.586]" in shown
    assert not re.search("<script|<link|src=|href=|<style", shown)


def test_names_are_escaped_in_notebooks():
    shown = renamed(toy(), {name: f"<i>{name}" for name in RATES})._repr_html_()
    assert "<i>" not in shown and "&lt;i&gt;mine" in shown
