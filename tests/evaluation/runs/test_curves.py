import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_evaluation import family, tx_factory

from evaluation.runs import curves
from lopt.baselines import BASELINES

STEPS, EVERY, SEEDS = 6, 3, (3, 5)
TRIALS = [
    {"learning_rate": 0.1, "schedule": "constant"},
    {"learning_rate": 0.5, "schedule": "cosine"},
]


@functools.cache
def runner():
    return curves.runner(curves.track(family(), valid_every=EVERY), tx_factory)


@functools.cache
def found():
    return curves.run(runner(), num_steps=STEPS, seeds=SEEDS, hyperparameters=TRIALS)


def keys_of(seed):
    return jax.random.split(jax.random.key(seed), 4)


def slow_loop(seed, tx):
    """Returns L_0..L_T, and held-out losses and accuracies after every update."""
    draw_key, init_key, train_key, valid_key = keys_of(seed)
    data, task = family().data, family().task(family().sample(draw_key))
    params = task.init(init_key)
    state, rows = tx.init(params), []
    valid_key = jax.random.split(valid_key, 16)[0]  # the same at every look
    for step in range(STEPS + 1):
        data_key, loss_key = jax.random.split(jax.random.fold_in(train_key, step))
        loss = functools.partial(
            task.loss, key=loss_key, batch=task.batch(data, data_key, "train")
        )
        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(params)
        row, hits = [value], aux["correct"]
        for split in ("inner_valid", "test"):
            held_out, aux = task.loss(params, valid_key, data[split])
            right = jnp.argmax(aux["logits"], -1) == data[split]["label"]
            row += [held_out, right.mean()]
        rows.append([*row, hits])
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return np.array(rows).T


@pytest.mark.parametrize("trial", range(2))
@pytest.mark.parametrize("index", range(2))
def test_curves_equal_a_slow_loop(trial, index):
    tx = tx_factory(num_steps=STEPS, **TRIALS[trial])
    losses, *held_out = slow_loop(SEEDS[index], tx)
    run = jax.tree.map(lambda x: x[trial, index], found())
    np.testing.assert_allclose(run.train, losses[1:], rtol=2e-5)
    for ours, theirs in zip(run[1:], held_out, strict=True):
        looks = theirs[::EVERY]
        np.testing.assert_allclose(ours, looks[-len(ours) :], rtol=2e-5)
    assert found().steps.tolist() == [0, 3, 6]


def test_trials_together_equal_trials_alone():
    for i, trial in enumerate(TRIALS):
        alone = curves.run(
            runner(), num_steps=STEPS, seeds=SEEDS, hyperparameters=[trial]
        )
        np.testing.assert_allclose(alone.train[0], found().train[i], rtol=2e-5)


def test_seeds_together_equal_seeds_alone():
    alone = curves.run(
        runner(), num_steps=STEPS, seeds=SEEDS[1:], hyperparameters=TRIALS
    )
    np.testing.assert_allclose(alone.train[:, 0], found().train[:, 1], rtol=2e-5)


def test_optimizers_share_starts_and_batches():
    still = curves.curves(
        family(),
        lambda *, num_steps: optax.set_to_zero(),
        num_steps=STEPS,
        seeds=SEEDS,
        valid_every=EVERY,
    )
    np.testing.assert_allclose(still.valid[0, :, 0], found().valid[0, :, 0])
    losses = [slow_loop(seed, optax.set_to_zero())[0, 1:] for seed in SEEDS]
    np.testing.assert_allclose(still.train[0], losses, rtol=2e-5)


def test_one_program_serves_all_lengths():
    short = curves.run(runner(), num_steps=3, seeds=SEEDS, hyperparameters=TRIALS)
    found()
    np.testing.assert_allclose(short.train[0], found().train[0, :, :3], rtol=2e-5)
    assert np.abs(short.train[1] - found().train[1, :, :3]).max() > 1e-3  # the cosine
    assert runner().advance._cache_size() <= 3  # one for each number of runs


def test_a_python_length_suits_optax_s_own_schedules():
    def plain(*, num_steps):
        return optax.adam(optax.cosine_decay_schedule(0.5, num_steps))

    python = curves.runner(runner().track, plain, traced_length=False)
    ours = curves.run(python, num_steps=STEPS, seeds=SEEDS)
    np.testing.assert_allclose(ours.train[0], found().train[1], rtol=2e-5)


def test_runs_that_diverge_are_named_and_not_averaged():
    wild = [{"learning_rate": float("inf")}, {"learning_rate": 0.1}]
    sgd = curves.runner(runner().track, BASELINES["sgdm"].build)
    got = curves.run(sgd, num_steps=STEPS, seeds=SEEDS, hyperparameters=wild)
    assert got.finite.tolist() == [[False, False], [True, True]]
    assert not np.isfinite(got.train[0]).all()


def test_losses_are_those_of_the_parameters_to_be_judged():
    def doubled(*, num_steps):
        return optax.sgd(0.5)

    def half(state, params):
        return jax.tree.map(lambda p: p / 2, params)

    judged = curves.runner(runner().track, doubled, eval_params=half)
    ours = curves.run(judged, num_steps=STEPS, seeds=SEEDS[:1])
    draw_key, init_key, train_key, valid_key = keys_of(SEEDS[0])
    task = family().task(family().sample(draw_key))
    params, losses = task.init(init_key), []
    for step in range(STEPS + 1):
        keys = jax.random.split(jax.random.fold_in(train_key, step))
        batch = task.batch(family().data, keys[0], "train")
        losses.append(task.loss(half(None, params), keys[1], batch)[0])
        grads = jax.grad(lambda p: task.loss(p, keys[1], batch)[0])(params)  # noqa: B023
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
    np.testing.assert_allclose(ours.train[0, 0], losses[1:], rtol=2e-5)
    key = jax.random.split(valid_key, 16)[0]
    test, _ = task.loss(half(None, params), key, family().data["test"])
    np.testing.assert_allclose(ours.test[0, 0, -1], test, rtol=2e-5)


def test_updates_get_what_optax_s_line_searches_ask_for():
    def checked(*, num_steps):
        def update(grads, state, params, *, value, grad, value_fn, **_):
            right = (value_fn(params) == value) & (grad["w"] == grads["w"]).all()
            zeros = jax.tree.map(jnp.zeros_like, grads)
            return jax.tree.map(lambda x: jnp.where(right, x, jnp.nan), zeros), state

        return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)

    line = curves.runner(runner().track, checked, traced_length=False)
    assert curves.run(line, num_steps=STEPS, seeds=SEEDS).finite.all()


def resplit():
    """Returns the family without a validation split, so that batches are drawn."""

    def task(draw):
        base = family().task(draw)

        def batch(data, key, split):
            del split
            return base.batch(data, key, "train")

        return base._replace(batch=batch)

    return family()._replace(data={"train": family().data["train"]}, task=task)


def test_losses_without_a_split_are_means_of_fixed_batches():
    still = {"num_steps": 2, "seeds": [3], "valid_every": 1}
    got = curves.curves(resplit(), lambda *, num_steps: optax.set_to_zero(), **still)
    assert np.ptp(got.valid) == 0
    draw_key, init_key, _, valid_key = keys_of(3)
    task, losses = resplit().task(family().sample(draw_key)), []
    params = task.init(init_key)
    for key in jax.random.split(valid_key, 16):
        data_key, loss_key = jax.random.split(key)
        batch = task.batch(resplit().data, data_key, "inner_valid")
        losses.append(task.loss(params, loss_key, batch)[0])
    np.testing.assert_allclose(got.valid[0, 0, 0], np.mean(losses), rtol=1e-5)


def test_a_length_between_looks_is_an_error():
    with pytest.raises(ValueError, match="try num_steps=6"):
        curves.run(runner(), num_steps=7, seeds=SEEDS, hyperparameters=TRIALS)
