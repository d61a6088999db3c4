"""Runs and costs are kept by all that makes them what they are."""

import jax
import numpy as np
import pytest
from toy_evaluation import SMALL, family, judged

from common import machine
from evaluation.runs import bench, curves
from evaluation.runs.bench import Bench, Place, Stand
from evaluation.runs.costs import Cost
from evaluation.runs.store import Store

STAND = Stand(None, None, Place("toy", None, 4, "task", 1, 1), "optimizer")
RUN = {"num_steps": 4, "seeds": [1], "hyperparameters": [{"learning_rate": 1.0}]}


def nothing(runner, *, num_steps, seeds, hyperparameters):
    """Returns curves that nobody ran."""
    shape = len(hyperparameters), len(seeds)
    return curves.Curves(*(np.zeros((*shape, n)) for n in (num_steps, 2, 2, 1, 1, 2)))


def made(store, *, stand=STAND, versions=(), **changes):
    """Returns how many runs are made of those that the store lacks."""
    maker = Bench(store)
    maker.versions |= dict(versions)
    maker.run(stand, **RUN | changes)
    return maker.made


@pytest.mark.parametrize(
    "change",
    [
        {"stand": STAND._replace(program="another")},
        {"stand": STAND._replace(place=STAND.place._replace(program="another"))},
        {"num_steps": 8},
        {"seeds": [2]},
        {"hyperparameters": [{"learning_rate": 2.0}]},
        {"versions": {"jax": "0.0.1"}},
        {"versions": {"device": "abacus"}},
    ],
)
def test_a_run_is_made_again_where_anything_of_it_is_another(change, monkeypatch):
    monkeypatch.setattr(curves, "run", nothing)
    store = Store()
    assert (made(store), made(store)) == (1, 0)
    assert (made(store, **change), made(store, **change)) == (1, 0)


def test_seconds_of_another_machine_are_measured_anew(monkeypatch):
    asked = []

    def measured(*args, **kwargs):
        asked.append(args)
        return Cost(1.0, 0.5, 8)

    monkeypatch.setattr(bench, "cost", measured)
    maker = Bench(Store())
    assert maker.cost(STAND, {}) == maker.cost(STAND, {}) and len(asked) == 1
    monkeypatch.setattr(machine, "machine", lambda: {"cores": 1_000})
    assert maker.cost(STAND, {}) == Cost(1.0, 0.5, 8) and len(asked) == 2


def test_a_task_of_other_data_is_another():
    other = jax.tree.map(lambda x: x + 1, family().data)
    first, again, changed = (
        bench.place("toy", family()._replace(data=data), num_steps=8, looks=4).program
        for data in (family().data, family().data, other)
    )
    assert first == again != changed


@pytest.mark.parametrize("limit", ["LANES", "WORK"])
def test_chunks_give_what_one_program_gives(limit, monkeypatch):
    whole, sizes, real = judged({"adam": SMALL}).cells[0], [], curves.run
    monkeypatch.setattr(bench, limit, 1)  # a trial at a time
    monkeypatch.setattr(
        curves,
        "run",
        lambda *a, **k: sizes.append(len(k["hyperparameters"])) or real(*a, **k),
    )
    parts = judged({"adam": SMALL}).cells[0]
    assert {*sizes} == {1}
    np.testing.assert_allclose(parts.tried.valid, whole.tried.valid, rtol=1e-5)


def test_progress_tells_how_much_is_left():
    lines = []
    progress = bench.Progress([1.0, 3.0, 4.0], lines.append)
    assert progress.begin("a") == "a: compiling and running, about 0 s; 1 of 3"
    progress.cell("a", 10.0, fresh=True)
    assert progress.begin("b") == "b: compiling and running, about 30 s; 2 of 3"
    progress.cell("b", 0.1, fresh=False)
    progress.cell("c", 41.0, fresh=True)
    assert lines == [
        "a: 10.0 s; 1 of 3, about 70 s left",
        "b: kept from before; 2 of 3, about 40 s left",
        "c: 41.0 s; 3 of 3",
    ]
