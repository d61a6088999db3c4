"""Which pictures there are: profiles of enough tasks, standings beside others."""

import pytest
from results import failed
from results import results as toy

from evaluation.report import pictures, style
from evaluation.report.summary import summary


@pytest.mark.parametrize("count, profiles", [(4, 0), (5, 2)])
def test_profiles_are_of_five_tasks_or_more(count, profiles, monkeypatch):
    monkeypatch.setattr(style, "svg", lambda *a, **k: "")
    found = tasks(count)
    assert len(list(pictures.profiles(found, "tuned"))) == profiles
    rows = []
    monkeypatch.setattr(style, "png", lambda draws, of: rows.extend(draws) or b"")
    pictures.readme(found, summary(found))
    assert len(rows) == (2 if profiles else 1)


def tasks(count):
    """Returns the bowl under so many names."""
    names = [f"bowl{i}" for i in range(count)]
    bowls = [x for x in toy().cells if x.task == "bowl"]
    settings = toy().settings
    same = dict.fromkeys(names, settings["tasks"]["bowl"])
    return toy()._replace(
        settings=settings | {"tasks": same},
        cells=tuple(x._replace(task=name) for name in names for x in bowls),
    )


def test_nothing_is_drawn_against_a_reference_that_stands_alone():
    found = failed(failed(toy(), "mine"), "sgdm")
    assert pictures.verdict(found, summary(found)) == []
