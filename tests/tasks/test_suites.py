"""Suites are frozen, whole, and their tasks still train as well as they did."""

import functools
import hashlib
import json
import math
import runpy

import jax
import numpy as np
import pytest
from places import ROOT

from tasks import __main__ as command
from tasks import data, suites
from tasks.base import gradient

BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "suites.py"))
RECORD = json.loads((ROOT / "tests" / "data" / "suites.json").read_text())
SUITES = suites.SUITES
COSTS = command.recorded()
TASKS = [(x, task) for x, tasks in SUITES.items() for task in suites.on_cpu(tasks)]

# A suite that changes needs a new name: results of different versions do not compare.
DIGESTS = {
    "train-v1": "86fdf4c00876",
    "train-v2": "c081d1002439",
    "train-v3": "919703f709f0",
    "valid-v1": "0119fee5c121",
    "valid-v2": "15f794a1b134",
    "in-dist-v1": "6b3ba416e851",
    "wider-v1": "863776d6990a",
    "deeper-v1": "06623ac7391a",
    "longer-v1": "01d634e780de",
    "transfer-v1": "5e313648524e",
    "transfer-v2": "e82450221a50",
    "scale-v1": "7b4077868af9",
    "digits-v1": "41ad38bf6dd1",
    "smoke-v1": "92044b7512e7",
}


def plain(one):
    """Returns what an entry says, as when there were no floors or accelerators."""
    new = ("floor", "accelerator")
    return {k: x for k, x in one._asdict().items() if k not in new or x}


@functools.cache
def family(suite, task):
    return suites.family(SUITES[suite][task])


def digest(suite):
    """Returns a hash of what a suite says, in order, and of the families it gives."""
    said = [
        (task, plain(one), family(suite, task).name, str(family(suite, task).shapes))
        for task, one in SUITES[suite].items()
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


@pytest.mark.parametrize("suite", SUITES)
def test_suites_are_what_they_were_when_frozen(suite):
    assert digest(suite) == DIGESTS[suite], f"{suite} changed: give it a new name"


def test_rules_are_chosen_by_no_shape_that_is_trained_on_or_reported():
    found = {
        x: {str(family(x, task).shapes) for task in of} for x, of in SUITES.items()
    }
    assert found.pop("valid-v1") < (chosen := found.pop("valid-v2"))
    assert len(chosen) == len(SUITES["valid-v2"])
    assert not [suite for suite, shapes in found.items() if chosen & shapes]


def reads_changed_text(suite, task):
    """Returns whether a task is of a text that is not the recorded one."""
    name = SUITES[suite][task].args.get("dataset")
    texts = RECORD["texts"]
    return name in texts and data.digest(name) != texts[name]


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_every_task_starts_as_recorded(suite, task):
    if reads_changed_text(suite, task):
        pytest.skip("this Python's text is another")
    found = BENCHMARK["beginning"](family(suite, task))
    assert found == pytest.approx(RECORD[suite][task]["start"], rel=1e-3)


def test_recorded_times_are_of_every_task_and_short():
    seconds = {
        suite: [RECORD[suite][task]["seconds"] for task in suites.on_cpu(tasks)]
        for suite, tasks in SUITES.items()
    }
    assert sum(seconds["transfer-v1"]) < 20 * 60
    assert all(0 < x < 300 for suite in seconds.values() for x in suite)


CHOSEN_BY = [x for x in SUITES if x.startswith(("train-", "valid-"))]


@pytest.mark.parametrize(
    ("suite", "unseen_by"), [("transfer-v1", ["train-v1"]), ("transfer-v2", CHOSEN_BY)]
)
def test_nothing_of_transfer_is_trained_on_or_chosen_by(suite, unseen_by):
    def nature(one):
        return one.family, one.args.get("cell")

    seen = [one for name in unseen_by for one in SUITES[name].values()]
    natures = {nature(one) for one in seen}
    sets = {one.args["dataset"] for one in seen if "dataset" in one.args}
    assert {("recurrent", "gru"), ("bigram", None)} & natures and "digits" in sets
    for one in SUITES[suite].values():
        assert nature(one) not in natures
        assert one.args.get("dataset") not in sets


def test_transfer_has_an_embedding_of_which_a_batch_touches_few_rows():
    args = SUITES["transfer-v2"]["bag_of_tokens"].args
    assert (args["vocabulary"], args["exponent"]) == (1024, 1.0)
    one = family("transfer-v2", "bag_of_tokens")
    task = one.task(one.sample(jax.random.key(0)))
    seen = task.batch(one.data, jax.random.key(1), "train")["input"]
    assert len(np.unique(seen)) < 1024 * 2 / 3


SCALE = SUITES["scale-v1"]


@pytest.mark.parametrize("task", SCALE)
def test_gradients_at_scale_take_thrice_what_the_dearest_update_does(task):
    cost = COSTS["scale-v1"][task]
    # An update of `mu_mlp` takes 4,300 (tests/evaluation/runs/test_entrants.py).
    assert cost["flops"] / cost["params"] > 3 * 4_300
    large = SCALE[task].accelerator
    assert (1e6 if large else 1e5) < cost["params"] < (1e7 if large else 3e5)


@pytest.mark.parametrize("task", SCALE)
def test_tasks_at_scale_have_losses_and_gradients(task):
    found = family("scale-v1", task)

    def step(key):
        task = found.task(found.sample(key))
        batch = task.batch(found.data, key, "train")
        return gradient(task, task.init(key), key, batch, task.state)

    value, _, grads = jax.eval_shape(step, jax.random.key(0))
    assert value.shape == () and str(grads) == str(found.shapes)


def test_in_dist_has_the_kinds_and_sets_of_train():
    def natures(suite):
        return {(e.family, e.args.get("dataset")) for e in SUITES[suite].values()}

    assert natures("in-dist-v1") == natures("train-v1")


def test_augmentations_are_part_of_a_task():
    names = {task: family("train-v1", task).name for task in SUITES["train-v1"]}
    assert [task for task in names if "reparametrised" in names[task]] == ["mlp"]


@pytest.mark.parametrize(
    ("suite", "base", "axis", "factors"),
    [
        ("wider-v1", "mlp-digits", "width", [2, 8, 32, 64]),
        ("wider-v1", "conv-digits", "width", [2, 8]),
        ("wider-v1", "transformer-stdlib", "width", [2, 8]),
        ("deeper-v1", "mlp-digits", "depth", [2, 4, 8, 16]),
        ("deeper-v1", "transformer-stdlib", "depth", [2, 8]),
        ("deeper-v1", "recurrent-stdlib", "depth", [2]),
    ],
)
def test_suites_grow_one_axis_from_the_trained_size(suite, base, axis, factors):
    base = SUITES["in-dist-v1"][base]
    grown = [e for e in SUITES[suite].values() if e.family == base.family]
    assert [one.args[axis] / base.args[axis] for one in grown] == factors
    assert all({**one.args, axis: base.args[axis]} == base.args for one in grown)
    assert {one.num_steps for one in grown} == {base.num_steps}


def test_growth_names_the_task_that_each_grew_from():
    for suite in suites.LINES:
        growth, tasks = suites.growth(suite), suites.with_bases(suite)
        assert growth.keys() == tasks.keys() >= SUITES[suite].keys()
        for task, grown in growth.items():
            base, axis = tasks[grown.base], grown.line.split()[-1]
            sizes = [
                x.num_steps if axis == "steps" else x.args[axis]
                for x in (tasks[task], base)
            ]
            assert sizes[0] == grown.factor * sizes[1]
            assert base in SUITES["in-dist-v1"].values()


def test_longer_runs_are_5_and_25_times_those_trained_on():
    trained = {e.family: e for e in SUITES["in-dist-v1"].values()}
    for one in SUITES["longer-v1"].values():
        base = trained[one.family]
        assert one.num_steps / base.num_steps in (5, 25) and one.args == base.args


def test_the_command_prints_whole_names_of_every_suite_at_once(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(command, "measured", None)  # what is recorded is enough
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    for task in {task for tasks in SUITES.values() for task in tasks}:
        assert any(line.split()[:1] == [task] for line in lines)


def test_the_command_marks_tasks_for_an_accelerator_and_divides_by_parameters(capsys):
    command.main(["scale-v1"])
    lines = {x.split()[0]: x for x in capsys.readouterr().out.splitlines() if x.strip()}
    marked = {task for task in SCALE if f"{task} *" in lines[task]}
    assert marked == {task for task, entry in SCALE.items() if entry.accelerator}
    assert " 16,728 " in lines["conv-patches16"]


def test_the_command_measures_where_it_is_asked_to(monkeypatch, capsys):
    few = dict(list(SUITES["train-v1"].items())[1:2])
    monkeypatch.setitem(SUITES, "train-v1", few)
    command.main(["train-v1", "--measure"])
    said = capsys.readouterr().out
    assert "softmax_regression" in said and " 62 " in said and "conv" not in said


def test_recorded_costs_are_of_the_tasks_that_there_are():
    for name, tasks in SUITES.items():
        assert list(COSTS[name]) == list(tasks), "run `python -m tasks --record`"
        for task, one in tasks.items():
            shapes = jax.tree.leaves(family(name, task).shapes)
            params, steps = (COSTS[name][task][key] for key in ("params", "steps"))
            assert params == sum(math.prod(x.shape) for x in shapes)
            assert steps == one.num_steps


@pytest.mark.parametrize("name", ["train-v9", "digit-v1"])
def test_an_unknown_suite_lists_the_known_and_the_nearest(capsys, name):
    with pytest.raises(SystemExit):
        command.main([name])
    said = capsys.readouterr().err
    assert "known: deeper-v1, digits-v1, " in said and "Did you mean '" in said


def unless_quick(suite, task):
    """Returns a case, slow unless it takes seconds."""
    few = [("in-dist-v1", "mlp-digits"), ("transfer-v1", "rosenbrock")]
    quick = suite == "smoke-v1" or (suite, task) in few
    return pytest.param(suite, task, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("suite", "task"), [unless_quick(*case) for case in TASKS])
def test_tuned_adam_reaches_the_recorded_loss(suite, task):
    if reads_changed_text(suite, task):
        pytest.skip("this Python's text is another")
    one, then = SUITES[suite][task], RECORD[suite][task]
    adam = BENCHMARK["runner"](family(suite, task))
    now = BENCHMARK["reached"](adam, one.num_steps, then["learning_rate"])
    assert now["first"] == pytest.approx(then["first"], rel=0.05)
    # Rounding, which differs from machine to machine, grows over single runs.
    floor = 1e-3 * then["first"]
    finals = [np.array(x["finals"]) + floor for x in (now, then)]
    assert np.median(np.abs(np.log(finals[0] / finals[1]))) < np.log(1.2)
    assert now["final"] < 0.95 * now["first"]
