"""Runs that end go on from where they got worse, with all that belongs to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY, agree

from meta_train import estimators
from meta_train.estimators.base import Contribution
from meta_train.estimators.buffer import Climb, buffered, climbed
from meta_train.estimators.evolution import PESState
from meta_train.inner.worker import Losses

THETA = {"log_lr": np.log(0.1), "decay": np.asarray(0.5)}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def by_hand(climb, value, taken, later):
    """Returns the climb after a window, and whether M of its first run rose."""
    rising, most, last = climb
    rose = began = False
    for loss, counts, new in zip(value, taken, later, strict=True):
        if new and not began:
            rising, most, last, began = 0.0, 0.0, np.inf, True
        if counts:
            rising = max(0.0, rising + loss - last)
            rose = rose or (not began and rising > most)
            most, last = max(most, rising), loss
    return (rising, most, last), rose


def test_climbs_are_those_of_a_python_loop():
    draws, step = np.random.default_rng(0), jax.jit(climbed)
    climb, found = Climb(*map(jnp.asarray, (0.0, 0.0, np.inf))), (0.0, 0.0, np.inf)
    outcomes = set()
    for window in range(60):
        value = draws.normal(size=5)
        later = np.arange(5) >= (draws.integers(1, 5) if window % 4 == 0 else 5)
        taken = np.arange(5) < draws.integers(1, 6)
        losses = Losses(*map(jnp.asarray, (value, value)), (), taken, later)
        climb, rose = step(climb, losses)
        found, expected = by_hand(found, value, taken, later)
        outcomes.add((bool(rose), later.any()))
        assert bool(rose) == expected
        np.testing.assert_allclose(climb, found, rtol=1e-12)
    assert len(outcomes) == 4


def failing(one):
    """Returns (start, one) of runs by `one`; three windows of seven diverge."""

    def take(theta, worker, data, key):
        window_key, restart_key = jax.random.split(key)
        after, losses = one.window(theta, worker, data, window_key)
        valid = worker.windows % 7 > 2
        restarted = valid & (losses.later.any() | (after.step == 0))
        after, _ = one.restart(theta, after, data, restart_key, ~valid)
        scalar = losses.value.mean()
        return Contribution(theta, losses, scalar, valid, restarted, after)

    return one.start, take


def same(tree, expected):
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


def test_slots_are_filled_and_gone_on_from_as_a_python_loop_does():
    family = toys.quadratic(noise=2.0)
    inner = toys.inner(
        toys.heavy_ball(), family, window=3, horizon=(4, 9), stagger=True
    )
    start, one = failing(inner)
    first, step = buffered(start, one, fresh=0.3)
    state, step, one = first(THETA, {}, KEY), jax.jit(step), jax.jit(one)
    own, slot, climb, seen = start(THETA, {}, KEY), None, (0.0, 0.0, np.inf), set()
    for window in range(40):
        key = jax.random.fold_in(KEY, window)
        own_key, choice_key = jax.random.split(key)
        out = one(THETA, own, {}, own_key)
        climb, rose = by_hand(climb, *(out.losses[i] for i in (0, 3, 4)))
        if out.valid and (rose or out.restarted):
            slot = own
        own, event = out.state, "rose" if rose else "none"
        if out.restarted or not out.valid:
            event = "ended" if out.valid else "diverged"
            if not (out.valid and out.losses.later.any()):
                climb = (0.0, 0.0, np.inf)
            if slot is not None and not jax.random.bernoulli(choice_key, 0.3):
                horizon = slot.step + out.state.horizon
                own = slot._replace(horizon=horizon, windows=out.state.windows)
                climb, event = (0.0, 0.0, np.inf), f"{event}, gone on"
        state = step(THETA, state, {}, key).state
        same(state.own, own)
        np.testing.assert_allclose(state.climb, climb, rtol=1e-12)
        assert bool(state.filled) == (slot is not None)
        if slot is not None:
            same(state.slot, slot)
        assert int(own.windows) == window + 1
        seen.add(event)
    assert len(seen) == 6, seen


def ages(pair, num_steps):
    """Returns [n, W], how old the run of each pair is at each step of a window."""
    step, horizon = (np.asarray(x)[:, 0, 0, None] for x in (pair.step, pair.horizon))
    age = step + np.arange(1, num_steps + 1)
    return np.where(age > horizon, age - horizon, age)


@pytest.mark.parametrize("name", ["pes", "nres"])
@pytest.mark.parametrize("theta", [0.0, 1.0])
def test_losses_of_runs_that_go_on_keep_their_scores(name, theta):
    # L_t = theta t, where t counts the steps before the slot too; the mean loss of a
    # pair does not depend on its kicks, so that what is pushed does not either. At 1
    # losses rise in every window, at 0 in none.
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    inner = toys.inner(toys.drift(), family, window=5, horizon=(5, 8), fresh=0.3)
    noise = toys.noise(1.0)
    one = estimators.build(name, inner=inner, num_workers=1, noise=noise)
    keys, theta = jax.random.split(KEY, 20_000), jnp.asarray(theta)
    state = jax.jit(jax.vmap(lambda key: one.init(theta, {}, key)))(keys)
    estimate = jax.jit(jax.vmap(lambda state, key: one.estimate(theta, state, {}, key)))
    found, exact, oldest = 0.0, 0.0, 0
    for window in range(8):
        each = jax.vmap(jax.random.fold_in, (0, None))(keys, window)
        age = ages(state.own.pair, 5)
        oldest = max(oldest, age.max())
        out, state = estimate(state, each)
        found, exact = found + out.grad, exact + age.mean(1)
    assert oldest > 20
    agree(found - exact + exact.mean(), exact.mean(keepdims=True), within=0.02)
    assert set(np.ravel(state.own.pair.windows).tolist()) == {8}


MATCHED = dict(matching="parameters", target=toys.target(), span=2)
WINDOWED = {"truncated": {}, "bootstrapped_pes": MATCHED | {"noise": toys.noise(0.1)}}


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_are_counted_in_runs_that_go_on(name):
    inner = toys.inner(
        toys.heavy_ball(), toys.quadratic(), window=2, horizon=3, fresh=0.1
    )
    one = estimators.build(name, inner=inner, num_workers=8, **WINDOWED[name])
    theta = jax.tree.map(jnp.asarray, THETA)
    state, estimate = one.init(theta, {}, KEY), jax.jit(one.estimate)
    for key in jax.random.split(KEY, 5):
        _, state = estimate(theta, state, {}, key)
    worker = getattr(state.own, "worker", state.own)
    assert set(worker.windows.tolist()) == {5}
    assert worker.horizon.max() > 3


def test_without_a_buffer_nothing_is_kept():
    inner = toys.inner(toys.heavy_ball(), toys.quadratic(), window=2, horizon=9)
    args = {"inner": inner, "num_workers": 1, "noise": toys.noise(0.1)}
    assert isinstance(estimators.build("pes", **args).init(THETA, {}, KEY), PESState)


@pytest.mark.parametrize("name", ["full", "es"])
def test_whole_runs_leave_nothing_to_go_on_with(name):
    family = toys.quadratic()
    inner = toys.inner(toys.heavy_ball(), family, window=2, horizon=9, fresh=0.2)
    args = {"noise": toys.noise(0.1)} if name == "es" else {"clip": None}
    with pytest.raises(ValueError, match="set config.inner.fresh = 1.0"):
        estimators.build(name, inner=inner, num_workers=1, **args)
