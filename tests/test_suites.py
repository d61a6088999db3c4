"""Suites are frozen, whole, and their tasks still train as well as they did."""

import hashlib
import json
import sys
from pathlib import Path

import jax
import pytest
from rich.console import Console

from tasks import __main__ as command
from tasks import suites

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))
RECORD = json.loads((ROOT / "tests" / "data" / "suites.json").read_text())
TASKS = [(suite, task) for suite, tasks in suites.SUITES.items() for task in tasks]

# A suite that changes needs a new name: results of different versions do not compare.
DIGESTS = {
    "train-v1": "9d4897c3d616",
    "in-dist-v1": "c0f1b1bdb499",
    "wider-v1": "264407c93aad",
    "deeper-v1": "780b603a67f1",
    "longer-v1": "929d8956d237",
    "transfer-v1": "cde5df5edc59",
}


def digest(suite):
    """Returns a hash of all that a suite says."""
    entries = {task: one._asdict() for task, one in suites.SUITES[suite].items()}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:12]


@pytest.mark.parametrize("suite", suites.SUITES)
def test_suites_are_what_they_were_when_frozen(suite):
    assert digest(suite) == DIGESTS[suite], f"{suite} changed: give it a new name"


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_every_task_builds_and_was_trained(suite, task):
    family = suites.family(suites.SUITES[suite][task])
    assert jax.tree.leaves(family.shapes)
    found = RECORD[suite][task]
    assert found["final"] < found["first"]


def test_nothing_of_transfer_is_meta_trained_on():
    seen = [*suites.SUITES["train-v1"].values(), *suites.SUITES["in-dist-v1"].values()]
    networks = {(e.family, e.args.get("cell")) for e in seen}
    sets = {e.args.get("dataset") for e in seen}
    for one in suites.SUITES["transfer-v1"].values():
        new_network = (one.family, one.args.get("cell")) not in networks
        assert new_network or one.args["dataset"] not in sets


@pytest.mark.parametrize(
    ("suite", "family", "axis", "factors"),
    [
        ("wider-v1", "mlp", "width", [2, 8, 32, 64]),
        ("deeper-v1", "mlp", "depth", [2, 4, 8, 16]),
    ],
)
def test_suites_grow_one_axis_from_the_trained_size(suite, family, axis, factors):
    base = suites.DIGITS_MLP
    grown = [e.args for e in suites.SUITES[suite].values() if e.family == family]
    assert [args[axis] / base[axis] for args in grown] == factors
    assert all({**args, axis: base[axis]} == base for args in grown)


def test_the_command_prints_a_suite(monkeypatch, capsys):
    few = dict(list(suites.SUITES["train-v1"].items())[1:2])
    monkeypatch.setitem(suites.SUITES, "train-v1", few)
    monkeypatch.setattr(command, "Console", lambda **_: Console(width=100))
    command.main(["train-v1"])
    said = capsys.readouterr().out
    assert "softmax_regression" in said and " 62 " in said and " 200 " in said


def test_an_unknown_suite_lists_the_known(capsys):
    with pytest.raises(SystemExit):
        command.main(["train-v2"])
    assert "known: train-v1, in-dist-v1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mlp-digits", "conv-digits", "transformer-stdlib"])
def test_tuned_adam_reaches_the_recorded_loss(task):
    import suites as benchmark

    one, then = suites.SUITES["in-dist-v1"][task], RECORD["in-dist-v1"][task]
    now = benchmark.judged(suites.family(one), one.num_steps)
    assert now["learning_rate"] == then["learning_rate"]
    assert abs(now["final"] - then["final"]) < 0.2 * then["final"]
