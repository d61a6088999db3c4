"""The loop: exact resumption, validation, and stopping without spoiling anything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_run import toy_run

from meta_train import checkpoint, logging
from meta_train.loop import BARREN_LIMIT, Stopped, loop


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def stop_after(steps):
    """Returns a `stop` that is true once asked for the step after `steps`."""
    asked = iter([False] * steps)
    return lambda: next(asked, True)


def steps(workdir):
    return [row["step"] for row in logging.read(workdir / "metrics.jsonl")]


def saved(workdir):
    names = [path.name for path in (workdir / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


@pytest.mark.parametrize("cuts", [(1,), (5,), (7, 4), (0, 20)])
def test_stopped_and_resumed_run_ends_with_the_same_bits(tmp_path, cuts):
    whole = loop(toy_run(validate=4), tmp_path / "whole")
    for cut in cuts:
        loop(toy_run(validate=4), tmp_path / "cut", stop=stop_after(cut))
    resumed = loop(toy_run(validate=4), tmp_path / "cut")
    assert bits((resumed.meta, resumed.best)) == bits((whole.meta, whole.best))
    assert resumed.best_step == whole.best_step
    assert resumed.best_score == whole.best_score
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "cut")]
    assert files[0].read_text() == files[1].read_text()


def test_stop_saves_the_step_it_came_at(tmp_path):
    progress = loop(toy_run(), tmp_path, stop=stop_after(7))
    assert progress.step == 7
    assert saved(tmp_path) == [5, 7]
    assert steps(tmp_path) == list(range(1, 8))


def test_stop_before_the_first_step_saves_the_start(tmp_path):
    assert loop(toy_run(), tmp_path, stop=lambda: True).step == 0
    assert saved(tmp_path) == [0]


def test_finished_run_does_nothing_more(tmp_path):
    first = loop(toy_run(), tmp_path)
    again = loop(toy_run(), tmp_path)
    assert again.step == 20
    assert bits(again.best) == bits(first.best)
    assert steps(tmp_path) == list(range(1, 21))


def test_without_validation_the_last_average_is_best(tmp_path):
    progress = loop(toy_run(), tmp_path)
    assert bits(progress.best) == bits(progress.meta.average)
    assert progress.best_step == 20


def test_validation_keeps_the_average_with_the_lowest_score(tmp_path):
    averages = {
        n: loop(toy_run(num_steps=n), tmp_path / str(n)).meta.average["w"]
        for n in range(4, 21, 4)
    }
    averages[0] = np.linspace(-1.0, 1.0, 5)
    scores = {n: float(np.sum((np.asarray(w) - 0.1) ** 2)) for n, w in averages.items()}
    progress = loop(toy_run(validate=4), tmp_path / "validated")
    found = logging.read(tmp_path / "validated" / "validation.jsonl")
    assert {row["step"]: row["toy"] for row in found} == pytest.approx(scores)
    assert progress.best_step == min(scores, key=scores.get)
    assert progress.best_score == pytest.approx(min(scores.values()), rel=1e-5)
    assert bits(progress.best) == bits({"w": averages[progress.best_step]})


def test_a_mean_of_averages_is_kept_where_it_scores_better(tmp_path):
    averages = [
        loop(toy_run(num_steps=n), tmp_path / str(n)).meta.average for n in (4, 8)
    ]
    middle = (averages[0]["w"] + averages[1]["w"]) / 2
    apart = lambda theta: jnp.sum(jnp.square(theta["w"] - middle))  # noqa: E731
    run = dataclasses.replace(
        toy_run(num_steps=8, validate=4, blend=True),
        scores=lambda theta: {"toy": apart(theta)},
    )
    progress = loop(run, tmp_path / "blended")
    np.testing.assert_allclose(progress.best["w"], middle, rtol=1e-5)
    assert progress.blended == 2 and progress.best_step == 8


def scripted(scores, **changes):
    """Returns a run of blended averages with the scores given, one a look."""
    looks = iter(scores)
    return dataclasses.replace(
        toy_run(validate=4, blend=True, **changes),
        scores=lambda theta: {"toy": jnp.float32(next(looks))},
    )


def test_a_mean_of_averages_weighs_each_alike(tmp_path):
    # That at the start; then an average, and its mean with the best so far.
    run = scripted([4.0, 9.0, 3.0, 9.0, 2.0], num_steps=8)
    progress = loop(run, tmp_path / "blended")
    averages = [np.linspace(-1.0, 1.0, 5)] + [
        loop(toy_run(num_steps=n), tmp_path / str(n)).meta.average["w"] for n in (4, 8)
    ]
    np.testing.assert_allclose(progress.best["w"], np.mean(averages, 0), rtol=1e-5)
    assert progress.blended == 3


def test_a_checkpoint_holds_all_of_a_run_s_progress(tmp_path, monkeypatch):
    run = scripted([4.0, 9.0, 3.0], num_steps=4)
    first = loop(run, tmp_path)
    assert first.blended == 2 and first.barren and first.origin
    monkeypatch.setattr("meta_train.loop.provenance", lambda: {"hardware": "another"})
    again = loop(run, tmp_path)
    for name in [field.name for field in dataclasses.fields(first)]:
        before, after = (getattr(x, name) for x in (first, again))
        arrays = name in ("meta", "best")
        assert (bits(before) == bits(after)) if arrays else before == after, name


def test_wall_clock_adds_up_over_resumed_parts(tmp_path):
    first = loop(toy_run(), tmp_path, stop=stop_after(10))
    second = loop(toy_run(), tmp_path)
    assert second.seconds > first.seconds > 0


def test_theta_that_is_not_finite_stops_and_is_never_saved(tmp_path):
    with pytest.raises(Stopped, match="not finite at meta-step 12.*checkpoints/10"):
        loop(toy_run(nan_at=12), tmp_path)
    assert saved(tmp_path) == [5, 10]
    for step in (5, 10):
        assert checkpoint.damage(tmp_path / "checkpoints" / str(step)) is None


def test_long_run_without_a_valid_worker_stops(tmp_path):
    with pytest.raises(Stopped, match="every worker of toy diverged.*checkpoints/15"):
        loop(toy_run(num_steps=40, barren_from=8), tmp_path)
    assert steps(tmp_path)[-1] <= 8 + BARREN_LIMIT + 3


def test_short_run_without_a_valid_worker_is_survived(tmp_path):
    progress = loop(toy_run(num_steps=12, barren_from=11), tmp_path)
    assert progress.step == 12
    assert progress.barren == {"toy": 2}
    assert saved(tmp_path) == [5, 10, 12]


def test_a_valid_meta_step_ends_a_row_of_barren_ones(tmp_path):
    run = toy_run(num_steps=3 * BARREN_LIMIT)

    def step(state, data, done):
        state, metrics = toy_run().learner.step(state, data)
        valid = jnp.where(state.step % BARREN_LIMIT, 0, metrics["valid"])
        return state, metrics | {"valid": valid}

    run = dataclasses.replace(run, learner=run.learner._replace(step=step))
    assert loop(run, tmp_path).step == 3 * BARREN_LIMIT


def test_one_family_of_a_mixture_that_always_diverges_stops_the_run(tmp_path):
    families = dict.fromkeys(("good", "bad"), toy_run().families["toy"])
    run = dataclasses.replace(toy_run(num_steps=60), families=families)

    def step(state, data, done):
        state, metrics = toy_run().learner.step(state, data)
        bad = state.step % 2
        valid = jnp.where(bad, 0, metrics["valid"])
        return state, metrics | {"family": bad, "valid": valid}

    run = dataclasses.replace(run, learner=run.learner._replace(step=step))
    with pytest.raises(Stopped, match="every worker of bad diverged.*meta-step 19;"):
        loop(run, tmp_path)
    rows = logging.read(tmp_path / "metrics.jsonl")
    assert all(row["loss"] == row["loss/bad"] for row in rows[::2])
    assert all("loss/bad" not in row for row in rows[1::2])


def test_diverged_meta_steps_are_counted_on_after_a_stop(tmp_path):
    run = toy_run(num_steps=60, barren_from=8)
    loop(run, tmp_path, stop=stop_after(12))
    with pytest.raises(Stopped, match="every worker of toy diverged"):
        loop(run, tmp_path)
    assert steps(tmp_path)[-1] <= 8 + BARREN_LIMIT + 3


@pytest.mark.parametrize("infinite", [(0,), (0, 4, 8)])
def test_a_score_that_is_infinite_keeps_no_average_from_being_best(tmp_path, infinite):
    run, looks = toy_run(num_steps=8, validate=4), iter((0, 4, 8))

    def scores(theta):
        bad = next(looks) in infinite
        return {"good": jnp.float32(1), "bad": jnp.float32(jnp.inf if bad else 1)}

    progress = loop(dataclasses.replace(run, scores=scores), tmp_path)
    assert progress.best_step == (4 if infinite == (0,) else 8)
    assert progress.best_score == (1 if infinite == (0,) else jnp.inf)


def test_failure_before_any_checkpoint_says_so(tmp_path):
    with pytest.raises(Stopped, match="there is no checkpoint"):
        loop(toy_run(nan_at=2), tmp_path)


def test_checkpoints_of_another_config_are_refused(tmp_path):
    loop(toy_run(num_steps=5), tmp_path)
    with pytest.raises(ValueError, match="outer.num_steps: 5 there, 20 here"):
        loop(toy_run(num_steps=20), tmp_path)
