import io

import numpy as np
import pytest
from results import changed
from rich.console import Console
from roads import LOOKS, SEEDS, STEPS, moving, road

from evaluation import evaluate, join, report, statistics
from evaluation.runs import results
from evaluation.runs.tuning import Tuning
from evaluation.scores import standings

TUNING = Tuning("none", 1, (0,))


def judged(**speeds):
    return evaluate(
        {name: moving(speed) for name, speed in speeds.items()},
        {name: (road(name, n), STEPS) for name, n in (("short", 10), ("long", 40))},
        SEEDS,
        tuning=TUNING,
        reference="slow",
        looks=LOOKS,
        say=lambda line: None,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns directories of two evaluations, of which `mine` differs."""
    places = [tmp_path_factory.mktemp("runs") / name for name in "ab"]
    for place, speed, other in zip(places, (1.5, 2.0), ("old", "new"), strict=True):
        place.mkdir()
        results.save(judged(slow=1.0, mine=speed, **{other: 1.0}), place)
    return places


def loaded(runs):
    return {path.name: results.load(path) for path in runs}


def test_what_is_alike_is_one_and_what_differs_is_labelled(runs):
    both = join.merged(loaded(runs))
    assert list(both.settings["optimizers"]) == [
        "slow",
        "mine@a",
        "old",
        "mine@b",
        "new",
    ]
    assert both.settings["reference"] == "slow"
    assert both.made["command"].split("; ")[1] == "b: evaluate(...) from Python"
    for label, found in loaded(runs).items():
        for task in ("short", "long"):
            ours, theirs = (
                x.chosen["default"].curves.train
                for x in (both.cell(f"mine@{label}", task), found.cell("mine", task))
            )
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("task", ["short", "long"])
def test_what_differs_on_one_task_alone_is_labelled_too(runs, task):
    first, second = loaded(runs).values()
    other = changed(second, "slow", task, lambda x: x._replace(train=x.train + 1))
    both = join.merged({"a": first, "b": other})
    assert {"slow@a", "slow@b"} <= both.settings["optimizers"].keys()
    assert both.settings["reference"] == "slow@a"


def test_an_older_evaluation_that_says_less_of_tasks_joins(runs):
    first, second = loaded(runs).values()
    older = {
        task: {k: x for k, x in said.items() if k not in join.LATER}
        for task, said in first.settings["tasks"].items()
    }
    first = first._replace(settings=first.settings | {"tasks": older})
    assert first.settings["tasks"] != second.settings["tasks"]
    assert join.merged({"a": first, "b": second}).settings["tasks"] == older


def test_differences_are_ratios_and_chances_over_all_tasks(runs):
    both = join.merged(loaded(runs))
    lines = list(join.differences(both, [("mine@a", "mine@b")]))
    assert len(lines) == 4 and all(x.startswith("mine@b against mine@a") for x in lines)
    a, b = (
        standings.runs(both, x, "test", ["short", "long"]) for x in ("mine@a", "mine@b")
    )
    ratio = np.exp(statistics.iqm(statistics.loss_ratio(b, a)))
    assert f"test loss: {ratio:.3g} [" in lines[3]


def test_the_command_prints_and_reports_all(runs, tmp_path, capsys):
    join.main([*map(str, runs), f"--workdir={tmp_path}"])
    printed = capsys.readouterr().out
    assert "mine@b against mine@a, final training loss" in printed
    assert (tmp_path / "index.html").exists()
    assert list(results.load(tmp_path).settings["optimizers"])[1] == "mine@a"


@pytest.mark.parametrize("key", join.SAME)
def test_evaluations_of_other_settings_are_refused(runs, key):
    found = loaded(runs)
    another = {"short": {"program": "another"}} if key == "tasks" else "another"
    other = found["b"].settings | {key: another}
    with pytest.raises(ValueError, match=f"b has another {key}"):
        join.merged(found | {"b": found["b"]._replace(settings=other)})


def test_another_budget_of_tuning_is_noted(runs):
    found = loaded(runs)
    settings = found["b"].settings
    other = settings | {"tuning": settings["tuning"] | {"trials": 5}}
    both = join.merged(found | {"b": found["b"]._replace(settings=other)})
    assert "tuned differently" in both.notes[0] and "'trials': 5" in both.notes[0]


def test_what_is_no_evaluation_is_named(runs, tmp_path):
    with pytest.raises(SystemExit, match="holds no evaluation"):
        join.main([str(runs[0]), str(tmp_path)])
    with pytest.raises(SystemExit, match="at least two"):
        join.main([str(runs[0])])


def test_what_is_compared_can_be_shown(runs):
    stream = io.StringIO()
    both = join.merged(loaded(runs))
    report.write(both, runs[0].parent / "both", console=Console(file=stream))
    assert "mine@b" in stream.getvalue()
