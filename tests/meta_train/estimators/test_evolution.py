"""Evolution strategies are unbiased, or as biased as a closed form says."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY, THETA, agree, sampled, smoothed

from meta_train import estimators
from meta_train.estimators.base import worker_keys
from meta_train.estimators.noise import Noise

SETTINGS = {
    "plain": dict(sigma=1e-3),
    "two_kicks": dict(sigma=1e-3, antithetic=False),
    "own_batches": dict(sigma=0.02, shared_batches=False),
    "per_leaf": dict(sigma=1e-3, per_leaf=True),
}
KEPT = {"es": 7, "pes": 5, "nres": 7}  # steps of a run that see one kick
REDUCED = {
    "late": lambda losses: jnp.mean(3 * (jnp.arange(1, 8) / 7) ** 2 * losses),
    "last": lambda losses: losses[-1],
    "min": jnp.min,
}
# The least loss is the sixth, after one of the first and before a larger last.
ROUGH = {"log_lr": np.log(0.3), "decay": np.asarray(0.9)}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def windows(name):
    """Returns how many estimates see all that there is to see."""
    return 1 if name == "es" else 7


def heavy(name, theta, *, noise, batches, horizon=7, **changes):
    """Returns what an estimator finds of heavy ball on a noisy quadratic."""
    family = toys.quadratic(noise=batches)
    inner = toys.inner(toys.heavy_ball(), family, window=5, horizon=horizon, **changes)
    return sampled(name, inner, theta, noise=noise, num_windows=windows(name))


@functools.cache
def exact(sigma, per_leaf, every):
    """Returns exact gradients of the mean loss, smoothed by such noise."""
    scales = {n: sigma * (abs(x) if per_leaf else 1) for n, x in THETA.items()}
    return smoothed(THETA, scales=scales, batches=0.1, of=jnp.mean, every=every)


@functools.cache
def exact_of(reduce, every):
    """Returns exact gradients of a rough run's reduced losses."""
    scales, of = dict.fromkeys(ROUGH, 1e-3), REDUCED[reduce]
    return smoothed(ROUGH, scales=scales, batches=0.0, of=of, every=every)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("setting", SETTINGS)
def test_estimate_is_the_exact_gradient_of_the_smoothed_mean(name, setting):
    noise = SETTINGS[setting]
    found = heavy(name, THETA, noise=noise, batches=0.1)
    agree(found, exact(noise["sigma"], "per_leaf" in noise, KEPT[name]))


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("reduce", REDUCED)
def test_estimate_is_the_exact_gradient_of_any_reduction(name, reduce):
    found = heavy(name, ROUGH, noise=dict(sigma=1e-3), batches=0.0, reduce=reduce)
    agree(found, exact_of(reduce, KEPT[name]))


def log_uniform(low, high):
    """Returns the probability of each integer of [low, high]."""
    ends = np.log(np.arange(low, high + 2))
    shares = np.diff(ends) / (ends[-1] - ends[0])
    return dict(zip(range(low, high + 1), shares, strict=True))


def test_es_takes_the_mean_over_horizons_that_vary():
    found = heavy("es", THETA, noise=dict(sigma=1e-3), batches=0.0, horizon=(3, 7))
    scales = dict.fromkeys(THETA, 1e-3)

    def mean(losses):
        return sum(p * losses[:n].mean() for n, p in log_uniform(3, 7).items())

    agree(found, smoothed(THETA, scales=scales, batches=0.0, of=mean, every=7))


def drifting(name, *, noise, window=5, horizon=7, num_windows=7):
    """Returns what an estimator finds of L_t = theta t, whose t-th gradient is t."""
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    inner = toys.inner(toys.drift(), family, window=window, horizon=horizon)
    return sampled(name, inner, 0.0, noise=noise, num_windows=num_windows)


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_estimate_is_exact_on_a_linear_problem(name):
    # The published test (docs/formulas.md): 2.3 to 3.4 with the scores of another run.
    agree(drifting(name, noise=dict(sigma=1.0)), np.full(1, 4.0), within=0.02)


def linear_by_hand(name, kicks):
    """Returns each window's estimate by PES or NRES, in Python, and what is carried.

    The pair is at theta + x and theta - x: their losses differ by 2 x. A run of 7 steps
    sees the kicks of its windows, or one that was drawn in the window where it starts.
    """
    x, age, found = 0.0, 0, []
    carried, kicks = (0.0, kicks) if name == "pes" else (kicks[0], kicks[1:])
    for kick in kicks:
        now, seen = (kick, carried + kick) if name == "pes" else (carried, carried)
        total = 0.0
        for _ in range(5):
            x, age = x + now, age + 1
            total += seen * 2 * x
            if age == 7:
                x, age, now, seen = 0.0, 0, kick, kick
        # Of a kick that moved nothing of a run so far, PES carries nothing.
        carried = 0.0 if name == "pes" and age == 0 else seen
        found.append((total / 5 / 2, carried))
    return np.array(found)


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_losses_are_weighed_by_the_kicks_that_their_own_run_has_seen(name):
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    inner = toys.inner(toys.drift(), family, window=5, horizon=7)
    noise, theta = Noise(**toys.noise(1.0)), jnp.zeros([])
    one = estimators.build(name, inner=inner, num_workers=1, noise=noise)
    state, estimate, found = one.init(theta, {}, KEY), jax.jit(one.estimate), []
    first = [] if name == "pes" else [state.kick.move[0, 0]]
    keys = jax.random.split(KEY, 7)
    for key in keys:
        out, state = estimate(theta, state, {}, key)
        carried = state.score if name == "pes" else state.kick.score
        found.append((out.grad, 2 * carried[0]))  # scores are kicks over 2 sigma^2
    noise_keys = [jax.random.split(worker_keys(key, 1)[0], 3)[0] for key in keys]
    kicks = [*first, *(noise.draw(key, theta).move[0] for key in noise_keys)]
    np.testing.assert_allclose(found, linear_by_hand(name, kicks), rtol=1e-12)


def mean_age(lengths, num_steps):
    """Returns the mean age of steps, in runs of random lengths one after another."""
    most = max(lengths)
    ages = range(1, most + 1)
    lasting = [sum(p for n, p in lengths.items() if n >= age) for age in ages]
    ending = np.array([lengths.get(age, 0) for age in ages]) / lasting
    done, mean = np.eye(most)[0], 0.0  # the probability of so many steps of a run
    for _ in range(num_steps):
        mean += done @ ages / num_steps
        done = np.array([done @ ending, *(done * (1 - ending))[:-1]])
    return mean


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_horizons_that_vary_within_a_window_leave_no_bias(name):
    found = drifting(name, noise=dict(sigma=1.0), horizon=(2, 7))
    agree(found, np.full(1, mean_age(log_uniform(2, 7), 35)), within=0.02)


def windows_that_vary(lengths, horizon, num_windows):
    """Returns, for each window, the mean sum of the ages of its steps, and of restarts.

    A run that starts inside a window draws the length of the next one.
    """
    chain, seen, ends = {(0, w): p for w, p in lengths.items()}, [], []
    for _ in range(num_windows):
        ages = {(s, w): [(s + i) % horizon + 1 for i in range(w)] for s, w in chain}
        seen.append(sum(p * sum(ages[state]) for state, p in chain.items()))
        ends.append(sum(p * (horizon in ages[state]) for state, p in chain.items()))
        after = collections.Counter()
        for (s, w), p in chain.items():
            drawn = lengths if horizon in ages[s, w] else {w: 1.0}
            after.update({((s + w) % horizon, v): p * q for v, q in drawn.items()})
        chain = after
    return np.array(seen), np.array(ends)


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_windows_that_vary_scale_the_gradient_by_a_known_constant(name):
    found = drifting(name, noise=dict(sigma=1.0), window=(2, 5))
    seen, ends = windows_that_vary(log_uniform(2, 5), 7, 300)
    agree(found, np.full(1, seen[:7].mean() / 5), within=0.02)
    # In the long run E[sum of a run's gradients] / (W E[windows per run]), W the most.
    np.testing.assert_allclose(seen[-1] / 5, sum(range(1, 8)) / (5 / ends[-1]))


def kicks_of(name):
    """Returns, for each of 35 steps in runs of 7, how many of its run saw each kick."""
    kept = KEPT[name]
    return [
        np.unique(np.arange(step - step % 7, step + 1) // kept, return_counts=True)[1]
        for step in range(35)
    ]


def worth(counts, *, sigma, sign=False, clip=None):
    """Returns E[score f(2 x)] of x = counts . kicks, score = kicks / 2 sigma^2, summed.

    By Stein it is the mean of the slope of f, 2 counts for the identity. That of a
    clip is as often 0 as it binds; that of a sign is a density at 0.
    """
    scale = 2 * sigma * np.linalg.norm(counts)  # the standard deviation of 2 x
    slope = math.sqrt(2 / math.pi) / scale if sign else math.erf(clip / scale / 2**0.5)
    return counts.sum() * slope


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("changes", [dict(sign=True), dict(clip=0.5), dict(clip=5.0)])
def test_signs_and_clipped_differences_are_biased_as_predicted(name, changes):
    noise = dict(sigma=0.5) | changes
    found = drifting(name, noise=noise, num_windows=windows(name))
    # That of means for whole runs, 4 theta each; that of every step for the others.
    steps = [np.array([4.0])] if name == "es" else kicks_of(name)
    expected = np.mean([worth(counts, **noise) for counts in steps])
    agree(found, np.full(1, expected), within=0.02)


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_nothing_is_left_of_the_kick_of_a_pair_that_diverged(name):
    family = toys.family_of(lambda x, batch: jnp.sum(x) + jnp.inf, [0.0])
    inner = toys.inner(toys.drift(), family, window=5, horizon=70)
    noise, theta = Noise(**toys.noise(1.0)), jnp.zeros([])
    one = estimators.build(name, inner=inner, num_workers=1, noise=noise)
    out, after = jax.jit(one.estimate)(theta, one.init(theta, {}, KEY), {}, KEY)
    assert out.metrics["diverged"] == 1 and not after.pair.step.any()
    new = noise.draw(jax.random.split(worker_keys(KEY, 1)[0], 3)[0], theta)
    if name == "pes":
        np.testing.assert_array_equal(after.score, 0.0)
    else:
        np.testing.assert_array_equal(after.kick.move[0], new.move)
