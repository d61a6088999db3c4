"""Cells: what is tuned, run and judged of an optimizer on a task, and what fails."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_evaluation import (
    LOOKS,
    SEEDS,
    SETTLED,
    SMALL,
    STEPS,
    TUNING,
    family,
    judged,
    plain,
    tx_factory,
)

import lopt
from evaluation import evaluate
from evaluation.runs import bench, cells, curves, entrants, tuning
from evaluation.runs.tuning import METRICS, Tuning
from lopt import artifact, mup
from lopt.baselines import BASELINES
from lopt.baselines.spaces import Range
from tasks import entries, families, suites
from tasks.suites import Line

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


def test_only_what_is_tuned_and_has_grown_has_a_twin_under_mup():
    adam = BASELINES["adam"]

    def twin(entrant, width):
        family = families.build(
            "teacher_student", **suites.TEACHER | {"width": width, "base_width": 4}
        )
        return cells.twin(entrant, bench.place("", family, num_steps=8, looks=4))

    assert twin(adam, 8) == "muadam" and twin(BASELINES["sgdm"], 8) == "musgd"
    assert twin(adam, 4) is twin(BASELINES["lion"], 8) is None
    assert twin(adam._replace(space={}), 8) is None


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [False, True])
def test_the_reference_of_a_wider_task_may_be_the_one_under_mup(transfer, monkeypatch):
    args = entries.DIGITS_MLP | {"width": 4, "base_width": 4, "batch_size": 4}
    line = Line("mlp", args, "width", (4,), 8)
    monkeypatch.setitem(suites.LINES, "grown", (line,))
    monkeypatch.setitem(suites.SUITES, "grown", line.entries())
    own = Tuning("search", 3, (0, 1), transfer=transfer)
    judge = functools.partial(
        evaluate, suite="grown", seeds=(3, 5), tuning=own, looks=4, say=lambda x: None
    )
    apart = judge({"adam": "adam", "muadam": "muadam"}, reference=None)
    task = suites.family(suites.SUITES["grown"]["mlp-widthx4"])
    info = mup.infer(task.shapes, task.base_shapes, wider=task.wider_shapes)
    scores = {}
    for name, given in {"adam": {}, "muadam": {"info": info}}.items():
        factory = functools.partial(BASELINES[name].build, **given)
        choice = apart.cell(name, "mlp-widthx4").chosen["valid"].choice
        ended = curves.run(
            curves.runner(curves.track(task, valid_every=2), factory),
            num_steps=8,
            seeds=own.seeds,
            hyperparameters=[choice.hyperparameters],
        )
        scores[name] = ended.valid[0, :, -1].mean()
    better = min(scores, key=scores.get)
    assert scores["adam"] != scores["muadam"]
    found = judge({"sgdm": "sgdm"}, reference="adam")
    ours, theirs = (
        x.cell(y, "mlp-widthx4") for x, y in ((found, "adam"), (apart, better))
    )
    np.testing.assert_array_equal(
        ours.best("final").curves.train, theirs.best("final").curves.train
    )
    said = any("adam on mlp-widthx4 is muadam" in x for x in found.notes)
    assert said == (better == "muadam")
