"""Lengths of windows and runs, staggering, and the batches of a pair."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from measured import KEY

from meta_train import estimators

THETA = {"log_lr": np.log(np.float32(0.1)), "decay": np.float32(0.5)}
MATCHED = dict(matching="parameters", target=toys.target(rule_steps=1))
KICKED = {
    "es": {},
    "truncated_es": {},
    "pes": {},
    "nres": {},
    "bootstrapped_pes": MATCHED | {"span": 2},
}


def inner(*, noise=0.0, window=2, horizon=(5, 5), **changes):
    return toys.inner(
        toys.heavy_ball(),
        toys.quadratic(noise),
        window=window,
        horizon=horizon,
        **changes,
    )


def fresh(one, windows=0, count=4000):
    """Returns so many workers at their first step."""
    keys = jax.random.split(KEY, count)
    run = jax.vmap(lambda key: one.fresh(THETA, {}, key, jnp.int32(windows)))
    return jax.jit(run)(keys)


@pytest.mark.parametrize("windows", [0, 2, 5, 9, 10, 99])
def test_the_longest_horizon_grows_geometrically(windows):
    # From 7 to 31: rounded, 7 * (31 / 7) would fall short of 31.
    found = fresh(inner(horizon=(7, 31), growth=10), windows).horizon
    bound = 7 * (31 / 7) ** min(1.0, windows / 10)
    assert found.min() == 7 and found.max() == int(bound)
    share = np.mean(found < 14)
    expected = min(1.0, np.log(14 / 7) / np.log((bound + 1) / 7))
    assert abs(share - expected) < 0.03


def test_windows_of_runs_are_log_uniform_between_their_bounds():
    found = np.array(fresh(inner(window=(2, 15))).window)
    assert found.min() == 2 and found.max() == 15
    assert abs(np.mean(found < 4) - np.log(2) / np.log(8)) < 0.03
    assert set(fresh(inner(window=3)).window.tolist()) == {3}


def test_windows_take_the_steps_that_their_run_has_drawn():
    one = inner(window=(2, 4), horizon=(9, 9))
    workers = fresh(one, count=64)
    run = jax.jit(jax.vmap(lambda w: one.window(THETA, w, {}, KEY)))
    after, losses = run(workers)
    np.testing.assert_array_equal(after.step, workers.window)
    np.testing.assert_array_equal(losses.taken.sum(1), workers.window)
    assert bool(((losses.value != 0) == losses.taken).all())
    assert set(after.step.tolist()) == {2, 3, 4}


def test_staggered_workers_start_at_every_step_alike():
    one = inner(horizon=(4, 6), stagger=True)
    workers = jax.jit(jax.vmap(lambda key: one.start(THETA, {}, key)))(
        jax.random.split(KEY, 6000)
    )
    for horizon in (4, 5, 6):
        steps = np.array(workers.step)[np.array(workers.horizon) == horizon]
        counts = np.bincount(steps, minlength=horizon)
        assert len(counts) == horizon
        assert abs(counts / counts.mean() - 1).max() < 0.15


ALL = KICKED | {
    "truncated": {},
    "multi_step": {"decay": 0.9},
    "smoothed": {},
    "full": {"clip": None},
    "bootstrapped": MATCHED | {"reuse": True},
}


def built(name, one, **noise):
    args = dict(ALL[name])
    if name in KICKED or name == "smoothed":
        args["noise"] = toys.noise(**{"sigma": 1e-6} | noise)
    return estimators.build(name, inner=one, num_workers=1, **args)


@pytest.mark.parametrize("name", ALL)
def test_windows_are_counted_through_restarts(name):
    # Of two steps or a whole run each; a run ends in every third, or in each.
    estimator = built(name, inner(horizon=(3, 3), growth=9))
    state, restarts = estimator.init(THETA, {}, KEY), 0
    estimate = jax.jit(estimator.estimate)
    for key in jax.random.split(KEY, 4):
        found, state = estimate(THETA, state, {}, key)
        restarts += int(found.metrics["restarts"])
    worker = getattr(state, "worker", getattr(state, "pair", state))
    counts = getattr(worker, "windows", worker)
    assert restarts > 1 and set(np.ravel(counts).tolist()) == {4}


@pytest.mark.parametrize("name", KICKED)
def test_a_pair_has_batches_of_its_own_if_asked(name):
    # The difference that they make is huge over a tiny sigma.
    norms = {}
    with jax.enable_x64(True):
        theta = jax.tree.map(jnp.float64, THETA)
        for shared in (True, False):
            estimator = built(name, inner(noise=0.5), shared_batches=shared)
            state = estimator.init(theta, {}, KEY)
            found, _ = jax.jit(estimator.estimate)(theta, state, {}, KEY)
            norms[shared] = float(optax.tree.norm(found.grad))
    assert norms[False] > 1000 * norms[True]
