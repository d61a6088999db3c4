import datetime
import functools
import json
import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lopt
from common import disk, machine
from evaluation import evaluate
from evaluation.runs import bench, curves, entrants, results, tuning
from evaluation.runs.store import Store, kept
from evaluation.runs.tuning import METRICS, Tuning
from lopt import artifact
from lopt.baselines import Baseline
from lopt.baselines.spaces import Range
from tests.evaluation.runs.test_curves import family, tx_factory

STEPS, LOOKS, SEEDS = 8, 4, (3, 5, 7)
TUNING = Tuning("search", 5, (0, 1))
SETTLED = {"trials": 0, "sequential": False}  # of what is not tuned
RULE = {
    "hidden": 4,
    "layers": 1,
    "head": "exp",
    "eps": "relative",
    "time": ["relative"],
    "signal": False,
    "nominal": 0.0,
    "clip": 8.0,
    "step_mult": 1e-2,
    "exp_mult": 1e-3,
}


def small_adam(*, num_steps, info, **hyperparameters):
    del info
    return tx_factory(num_steps=num_steps, **hyperparameters)


SMALL = Baseline(small_adam, {"learning_rate": Range(0.1, 1.0)}, {"learning_rate": 0.3})


def plain(*, num_steps):
    """Returns what anyone might bring along; its schedule needs a Python number."""
    return optax.adam(optax.cosine_decay_schedule(0.3, num_steps))


def judged(optimizers, **changes):
    arguments = {
        "suite": {"toy": (family(), STEPS)},
        "seeds": SEEDS,
        "tuning": TUNING,
        "reference": None,
        "looks": LOOKS,
        "say": lambda line: None,
    }
    return evaluate(optimizers, **arguments | changes)


@functools.cache
def found():
    return judged({"mine": plain, "adam": SMALL}, reference="adam")


def slow(tx_factory, *, num_steps=STEPS, seeds=SEEDS, own=({},)):
    every = STEPS // LOOKS
    return curves.curves(
        family(),
        tx_factory,
        num_steps=num_steps,
        seeds=seeds,
        hyperparameters=own,
        valid_every=every,
    )


def test_what_is_tuned_reports_what_was_best_on_the_tuning_seeds():
    cell = found().cell("adam", "toy")
    own = tuning.further(SMALL, TUNING, tuning.Seen([], {}))
    searched = slow(tx_factory, seeds=TUNING.seeds, own=own)
    for metric in METRICS:
        means = tuning.values(searched, metric).mean(-1)
        best = own[int(np.argmin(means))]
        assert cell.chosen[metric].choice.hyperparameters == best
        alone = slow(tx_factory, own=[best])
        np.testing.assert_allclose(
            cell.chosen[metric].curves.train, alone.train, rtol=1e-4
        )
        np.testing.assert_allclose(cell.tried.values[metric].mean(-1), means, rtol=1e-4)
    defaults = slow(tx_factory, own=[SMALL.defaults])
    np.testing.assert_allclose(
        cell.chosen["default"].curves.test, defaults.test, rtol=1e-4
    )


def test_the_reference_is_tuned_and_run_at_its_lengths_too():
    own, length = tuning.further(SMALL, TUNING, tuning.Seen([], {})), 2 * STEPS
    searched = slow(tx_factory, num_steps=length, seeds=TUNING.seeds, own=own)
    best = own[int(np.argmin(tuning.values(searched, "final").mean(-1)))]
    alone = slow(tx_factory, num_steps=length, own=[best])
    longer = found().cell("adam", "toy").longer
    assert list(longer) == [2] and not found().cell("mine", "toy").longer
    np.testing.assert_allclose(longer[2].train, alone.train, rtol=1e-4)


def test_what_is_not_tuned_runs_as_it_is():
    cell = found().cell("mine", "toy")
    assert cell.tried is None and list(cell.chosen) == ["default"]
    alone = slow(lambda *, num_steps: plain(num_steps=STEPS))
    np.testing.assert_allclose(cell.best("valid").curves.train, alone.train, rtol=1e-4)
    transformation = judged(optax.adam(0.3), reference=None)
    assert [x.optimizer for x in transformation.cells] == ["yours"]


def test_one_optimizer_is_judged_against_the_reference():
    quick = Tuning("none", 1, (0,))
    one = judged(optax.adam(0.3), reference="sgdm", tuning=quick)
    assert list(one.settings["optimizers"]) == ["yours", "sgdm"]
    assert one.settings["optimizers"]["sgdm"] == SETTLED | {"baseline": True}


def test_baselines_set_aims_by_their_best_within_three_quarters():
    cell = judged({"fast": "adam"}, tuning=Tuning("none", 1, (0,))).cells[0]
    own = [entrants.by_name("adam")["yours"].defaults]
    alone = slow(tx_factory, num_steps=STEPS * 3 // 4, own=own)
    np.testing.assert_allclose(cell.aims, alone.valid[0].min(-1), rtol=1e-4)
    assert found().cell("mine", "toy").aims is None


def test_a_tuned_baseline_sets_aims_by_what_was_tuned_for_validation(monkeypatch):
    monkeypatch.setitem(entrants.BASELINES, "small", SMALL)
    cell = judged({"small": SMALL}).cells[0]
    best = cell.chosen["valid"].choice.hyperparameters
    alone = slow(tx_factory, num_steps=STEPS * 3 // 4, own=[best])
    np.testing.assert_allclose(cell.aims, alone.valid[0].min(-1), rtol=1e-4)
    assert best != SMALL.defaults


def test_costs_and_state_are_told():
    cell = found().cell("adam", "toy")
    # Two moments of four bytes, and two counts of four for twelve parameters.
    assert cell.state_bytes == pytest.approx(8 + 8 / 12)
    assert 0 < cell.cost.optimizer_seconds
    assert cell.cost.peak_bytes > 3 * 12 * 4


@pytest.mark.parametrize(
    "tx",
    [
        optax.lbfgs(),
        optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
        optax.apply_if_finite(optax.sgd(0.1), 3),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        optax.contrib.schedule_free_sgd(0.1),
        optax.contrib.momo(0.1),
    ],
)
def test_any_optax_transformation_can_be_judged(tx):
    cell = judged(tx).cells[0]
    assert cell.error is None and cell.best("final").curves.finite.all()


# What fails costs its cell alone.


def raising(*, num_steps):
    raise RuntimeError("no such thing")


def nan(*, num_steps):
    return optax.chain(optax.sgd(0.1), optax.scale(jnp.nan))


def transposed(*, num_steps):
    def update(grads, state, params=None):
        return jax.tree.map(jnp.transpose, grads), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def row(*, num_steps):
    """Returns what has updates that would broadcast to the parameters."""

    def update(grads, state, params=None):
        return jax.tree.map(lambda g: -0.1 * g[:1], grads), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def another_tree(*, num_steps):
    def update(grads, state, params=None):
        return list(grads.values()), state

    return optax.GradientTransformation(optax.init_empty_state, update)


FAILING = {
    "raising": (raising, "RuntimeError: no such thing"),
    "transposed": (transposed, "ValueError: its update of w has shape (4, 3)"),
    "row": (row, "ValueError: its update of w has shape (1, 4), the parameter (3, 4)."),
    "another_tree": (another_tree, "ValueError: its updates are another tree"),
}


def test_what_raises_or_has_wrong_shapes_costs_its_cell_alone():
    lines = []
    optimizers = {"adam": SMALL} | {name: x for name, (x, _) in FAILING.items()}
    got = judged(optimizers, say=lines.append)
    for name, (_, message) in FAILING.items():
        assert got.cell(name, "toy").error.startswith(message)
        assert any(f"{name} failed ({message}" in line for line in lines)
    ours, theirs = (x.cell("adam", "toy").best("mean").curves for x in (got, found()))
    np.testing.assert_allclose(ours.train, theirs.train)


def test_what_diverges_is_no_failure_but_has_diverged():
    cell = judged({"nan": nan}).cells[0]
    assert cell.error is None
    assert not cell.best("final").curves.finite.any()


def test_a_baseline_of_which_every_trial_diverges_fails_alone():
    wild = SMALL._replace(space={"learning_rate": Range(1e37, 1e38)})
    got = judged({"wild": wild, "mine": plain})
    assert "each of 5 trials diverged" in got.cell("wild", "toy").error
    assert got.cell("mine", "toy").error is None


# Nothing is made twice, and nothing is asked for in vain.


def test_a_second_evaluation_makes_only_what_is_new(tmp_path, monkeypatch):
    made = []
    real = curves.run
    monkeypatch.setattr(
        curves, "run", lambda *a, **k: made.append(k["num_steps"]) or real(*a, **k)
    )
    first = judged({"adam": SMALL}, directory=tmp_path)
    count = len(made)
    lines = []
    again = judged({"renamed": SMALL}, directory=tmp_path, say=lines.append)
    assert len(made) == count and "kept from before" in lines[-1]
    for one in METRICS:
        np.testing.assert_array_equal(
            first.cells[0].chosen[one].curves.train,
            again.cells[0].chosen[one].curves.train,
        )
    judged({"adam": SMALL}, directory=tmp_path, seeds=(*SEEDS, 9))
    assert len(made) == count + 1  # the new seed, of the reported runs alone
    judged({"adam": SMALL, "mine": plain}, directory=tmp_path)
    assert len(made) == count + 2


def test_without_a_directory_runs_are_kept_in_a_temporary_one_that_is_named():
    lines = []
    judged({"mine": plain}, say=lines.append)
    place = re.match("runs are kept in (\\S+);", lines[0])[1]
    assert "/lopt-evaluation-" in place
    assert kept(Path(place)) >= len(SEEDS)
    judged({"mine": plain}, directory=place, say=lines.append)
    assert "kept from before" in lines[-1]


def test_results_say_on_which_day_and_by_what_they_were_made():
    today = datetime.datetime.now(datetime.UTC).date()
    made = judged({"mine": plain}).made
    assert today - datetime.date.fromisoformat(made["date"]) <= datetime.timedelta(1)
    assert made["command"] == "evaluate(...) from Python"
    assert made["revision"] == machine.revision()


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


def test_results_come_back_from_disk_as_they_were(tmp_path):
    got = judged({"mine": plain, "adam": SMALL, "raising": raising}, reference="adam")
    results.save(got, tmp_path)
    back = results.load(str(tmp_path))
    assert json.dumps(back.settings) == json.dumps(got.settings)
    assert jax.tree.structure(back.cells) == jax.tree.structure(got.cells)
    for a, b in zip(*map(jax.tree.leaves, (back.cells, got.cells)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", results.FILES)
def test_damaged_results_are_named(tmp_path, name):
    with pytest.raises(ValueError, match="holds no evaluation"):
        results.load(tmp_path)
    results.save(found(), tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        results.load(tmp_path)


def test_optima_at_the_edge_are_noted():
    narrow = SMALL._replace(space={"learning_rate": Range(1e-4, 1e-3)})
    notes = judged({"narrow": narrow}).notes
    assert any(
        "narrow on toy, tuned for mean: its best learning_rate=" in x for x in notes
    )


def test_learned_rules_run_untuned_and_their_warnings_are_noted(tmp_path):
    theta = lopt.build("mlp", **RULE).init(jax.random.key(0))
    card = {"trained_horizon": [2, STEPS // 2]}
    artifact.save(tmp_path, rule="mlp", rule_args=RULE, theta=theta, card=card)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = judged({"mine": str(tmp_path)})
    assert got.settings["optimizers"]["mine"] == SETTLED | {"baseline": False}
    assert any(f"num_steps is {STEPS}" in note for note in got.notes)
    alone = slow(lambda *, num_steps: lopt.load(tmp_path, num_steps=num_steps))
    np.testing.assert_allclose(
        got.cells[0].best("mean").curves.train, alone.train, rtol=1e-4, atol=1e-6
    )


def test_optimizers_are_found_by_name_path_and_label():
    assert list(entrants.find(["adam", "mine=sgdm"])) == ["adam", "mine"]
    with pytest.raises(ValueError, match="unknown optimizer .*known: sgdm, "):
        entrants.find(["adam", "no-such-thing"])
    with pytest.raises(ValueError, match="each once"):
        entrants.find(["adam", "adam"])


def never(*, num_steps):
    raise AssertionError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 2)}, "both for tuning and for reporting"),
        ({"seeds": ()}, "need trials and seeds"),
        ({"seeds": (1_000,)}, "one seed has no interval"),
        ({"looks": 3}, "multiple of 4"),
        ({"suite": {"toy": (family(), 10)}}, "10 steps of toy are no multiple"),
        ({"suite": "in-dist-v2"}, "Did you mean 'in-dist-v1'"),
        ({"reference": "adamw2"}, "unknown reference 'adamw2'"),
        ({"reference_lengths": (0,)}, "whole numbers from 1"),
        ({"tuning": TUNING._replace(protocol="gird")}, "Did you mean 'grid'"),
        ({"optimizers": {"mine": lambda: 3}}, "'mine' must be an Optax transformation"),
    ],
)
def test_mistakes_are_found_before_anything_runs(changes, message):
    with pytest.raises(ValueError, match=message):
        judged(**{"optimizers": {"mine": never}} | changes)


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


def test_a_full_disk_is_no_fault_of_the_optimizer_s_and_names_the_file(monkeypatch):
    begin = Store.__init__

    def small(self, path=None):
        begin(self, path)
        self.database.execute("PRAGMA max_page_count = 3")

    monkeypatch.setattr(Store, "__init__", small)
    with pytest.raises(disk.DiskFull, match="no room for .*trials.sqlite"):
        judged({"mine": plain})
