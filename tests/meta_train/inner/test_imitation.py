"""Experts are followed, and resembled, as far as ELO says (arXiv:2607.06772)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import toys
from measured import KEY, batch_keys, close, loss_at

from meta_train import build as runs
from meta_train import estimators
from meta_train.estimators.base import worker_keys
from meta_train.estimators.noise import Noise
from meta_train.inner import imitation

RULE = toys.heavy_ball()
THETA = {"log_lr": np.log(0.1), "decay": np.asarray(0.5)}
ADAM = dict(name="adam", args=dict(learning_rate=0.05))
# What the first three windows of a worker see: h(0) = .75, .5, .25.
FALLING = dict(hold=0, decay=4, direction=0.7, magnitude=0.3, floor=0.3)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def settings(**changes):
    return dict(expert=ADAM) | FALLING | changes


def test_the_experts_lead_falls_in_a_line_to_its_least():
    elo = imitation.Imitation(**settings(hold=5_000, decay=45_000))
    windows = jnp.array([0, 5_000, 27_500, 45_000, 50_000, 99_999])
    close(elo.lead(windows, 0.0), [1, 1, 0.5, 1 / 9, 0, 0], rtol=1e-6)
    close(elo.lead(windows, 0.3), [1, 1, 0.5, 0.3, 0.3, 0.3], rtol=1e-6)
    direction, magnitude = elo.shares(windows)
    close(direction, [0.7, 0.7, 0.35, 0.21, 0.21, 0.21], rtol=1e-6)
    close(magnitude, [0.3, 0.3, 0.15, 1 / 30, 0, 0], rtol=1e-6)


def muon_by_hand(grads):
    """Returns Muon's updates at rate 1 of gradients, as published but unbiased."""
    momentum, found = 0, []
    for t, g in enumerate(grads, 1):
        momentum = 0.99 * momentum + 0.01 * g
        x = 0.99 * momentum / (1 - 0.99 ** (t + 1)) + 0.01 * g / (1 - 0.99**t)
        wide = x if x.shape[0] <= x.shape[1] else x.T
        wide = wide / np.linalg.norm(wide)
        for _ in range(5):
            a = wide @ wide.T
            wide = 3.4445 * wide + (-4.7750 * a + 2.0315 * a @ a) @ wide
        x = wide if x.shape[0] <= x.shape[1] else wide.T
        found.append(-x * max(1, x.shape[1] / x.shape[0]) ** 0.5)
    return found


def adamw_by_hand(grads, param):
    """Returns AdamW's updates at rate 1 of gradients, the parameter staying."""
    m, v, found = 0, 0, []
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        found.append(-step - 1e-4 * param)
    return found


def test_elo_is_muon_on_matrices_and_adamw_at_a_third_on_the_rest():
    shapes = {"wide": (2, 5), "tall": (4, 3), "bias": (3,), "kernel": (2, 2, 3)}
    draws = np.random.default_rng(0)
    params = {name: draws.normal(size=shape) for name, shape in shapes.items()}
    grads = [{n: draws.normal(size=s) for n, s in shapes.items()} for _ in range(3)]
    tx, found = imitation.find("elo")(), []
    state = tx.init(params)
    for g in grads:
        updates, state = jax.jit(tx.update)(g, state, params)
        found.append(updates)
    for t in range(3):
        rate = 1e-4 + (1e-2 - 1e-4) * (1 + np.cos(np.pi * t / 10_000)) / 2
        for name in shapes:
            each = [g[name] for g in grads]
            if name in ("wide", "tall"):
                expected = rate * muon_by_hand(each)[t]
            else:
                expected = 0.3 * rate * adamw_by_hand(each, params[name])[t]
            np.testing.assert_allclose(found[t][name], expected, rtol=2e-6)


EXPERTS = {
    "elo": {},
    "adam": dict(learning_rate=0.1),
    "adamw": dict(learning_rate=0.1, weight_decay=0.0),
}


@pytest.mark.parametrize("name", imitation.EXPERTS)
def test_experts_have_derivatives_where_gradients_are_zero(name):
    tx = imitation.find(name)(**EXPERTS[name])
    zeros = {"w": jnp.zeros((3, 2), jnp.float32), "b": jnp.zeros(2, jnp.float32)}

    def second(grads):
        _, state = tx.update(zeros, tx.init(zeros), zeros)
        return tx.update(grads, state, zeros)[0]

    assert max(jnp.abs(x).max() for x in jax.tree.leaves(second(zeros))) < 1e-8
    for leaf in jax.tree.leaves(jax.jit(jax.jacrev(second))(zeros)):
        assert bool(jnp.isfinite(leaf).all())


def test_unlikeness_is_that_of_all_parameters_together():
    ours, theirs = (
        {"w": jnp.array([[w]]), "b": jnp.array([b, 0.0])}
        for w, b in [(3.0, 4.0), (-4.0, 3.0)]
    )
    close(imitation.unlikeness(ours, theirs), (1.0, 2 / 3))
    np.testing.assert_allclose(imitation.unlikeness(ours, ours), (0, 0), atol=1e-15)
    nothing = jax.tree.map(jnp.zeros_like, ours)
    slopes = jax.jacrev(imitation.unlikeness)(nothing, theirs)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(slopes))


def inner(*, family=None, window=4, horizon=6, noise=0.5, **changes):
    family = toys.quadratic(noise) if family is None else family
    return toys.inner(
        RULE, family, window=window, horizon=horizon, imitation=settings(**changes)
    )


def by_hand(theta, keys, *, family, lead, expert):
    """Returns losses, l_dir and l_mag of a Python loop, and params."""
    params = family.task(()).init(KEY)
    rule, found = RULE.bind(theta), []
    states = [rule.init(params), expert.init(params)]
    for key, next_key in zip(keys[:-1], keys[1:], strict=True):
        grads = jax.grad(lambda p, key=key: loss_at(family, p, key))(params)
        ours, states[0] = rule.update(grads, states[0], params)
        theirs, states[1] = expert.update(grads, states[1], params)
        params = jax.tree.map(
            lambda p, u, e: lead * (p + e) + (1 - lead) * (p + u), params, ours, theirs
        )
        a, b = (jnp.concatenate(jax.tree.leaves(x), None) for x in (ours, theirs))
        direction = 1 - a @ b / jnp.sqrt((a @ a) * (b @ b))
        magnitude = jnp.abs(jnp.abs(b) - jnp.abs(a)).mean()
        found.append([loss_at(family, params, next_key), direction, magnitude])
    return jnp.array(found), params


@pytest.mark.parametrize("name", ["truncated", "full"])
def test_gradient_by_reverse_mode_is_that_of_a_python_loop(name):
    one = inner(window=5, horizon=5)
    args = {"clip": None} if name == "full" else {}
    estimator = estimators.build(name, inner=one, num_workers=1, **args)
    state = estimator.init(THETA, {}, KEY)
    estimate, _ = jax.jit(estimator.estimate)(THETA, state, {}, KEY)
    parts = jax.random.split(worker_keys(KEY, 1)[0], 3 if name == "truncated" else 2)
    # Whole runs have 2 x 3 steps, of which 5 count.
    keys = batch_keys(parts[0 if name == "truncated" else 1], 5 + (name == "full"))[:6]
    family, expert = toys.quadratic(0.5), optax.adam(0.05)

    def value(theta):
        found, _ = by_hand(theta, keys, family=family, lead=0.75, expert=expert)
        return found.mean(0) @ np.array([1 - 0.75, 0.7 * 0.75, 0.3 * 0.75])

    value, grad = jax.jit(jax.value_and_grad(value))(THETA)
    close((estimate.metrics["objective"], estimate.grad), (value, grad), rtol=1e-9)


@pytest.mark.parametrize("hold, lead", [(9, 1.0), (0, 0.0)])
def test_runs_follow_the_expert_at_first_and_the_rule_in_the_end(hold, lead):
    family, elo = toys.classifier(), dict(name="elo", args={})
    one = inner(family=family, horizon=9, hold=hold, decay=1, expert=elo)
    start = family.task(()).init(KEY)
    worker = one.start(THETA, {}, KEY)._replace(params=start)
    after, _ = jax.jit(one.window)(THETA, worker, {}, KEY)
    expert = imitation.find("elo")()
    keys = batch_keys(KEY, 4)
    _, params = by_hand(THETA, keys, family=family, lead=lead, expert=expert)
    close(after.params, params, rtol=1e-9)


NOISE = Noise(**toys.noise(0.1))


def logarithms():
    """Returns a loss that some batches turn to NaN."""
    loss = lambda x, batch: jnp.sum(jnp.log(x + batch))  # noqa: E731
    return toys.family_of(loss, [1.0, 2.0], 0.5)


def pairs(one, workers, key):
    """Returns what each pair of workers [n, 2] loses in a window, and its kick."""

    def of(pair, key):
        noise_key, window_key, _ = jax.random.split(key, 3)
        kick = NOISE.draw(noise_key, jax.tree.map(jnp.asarray, THETA))
        thetas = jax.tree.map(lambda t, m: t + m, THETA, kick.move)
        run = jax.vmap(one.window, (0, 0, None, None, 0))
        return *run(thetas, pair, {}, window_key, thetas), kick.score

    keys = worker_keys(key, len(workers.step))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(of))(workers, keys))


def elo_by_hand(losses, valid, shares):
    """Returns ELO's mixture of differences [n, ...], of losses [n, 2, ...]."""
    outcome, *unlike = (x[:, 0] - x[:, 1] for x in losses)
    found = (1 - sum(shares)) * outcome
    for share, difference in zip(shares, unlike, strict=True):
        rms = np.sqrt(np.mean(difference[valid] ** 2))
        found += share * 0.01 * difference / rms
    return found


def test_pes_mixes_differences_as_elo_does_and_spares_them_diverged_pairs():
    one = inner(family=logarithms(), window=3, horizon=5)
    estimator = estimators.build("pes", inner=one, num_workers=16, noise=NOISE)
    estimate = jax.jit(estimator.estimate)
    _, state = estimate(THETA, estimator.init(THETA, {}, KEY), {}, KEY)
    key = jax.random.key(1)
    found, _ = estimate(THETA, state, {}, key)
    pair, losses, scores = pairs(one, state.pair, key)
    ends = [np.isfinite(x).all((1, 2)) for x in (losses.value, pair.params["x"])]
    valid = np.logical_and(*ends)
    assert 2 < valid.sum() < 14 and losses.later[valid].any()
    shares = (0.7 * 0.5, 0.3 * 0.5)  # of the second window
    differences = elo_by_hand(losses.unlikeness, valid, shares)
    for name in THETA:
        new, later = scores[name][:, None], losses.later[:, 0]
        weights = np.where(later, new, new + np.asarray(state.score[name])[:, None])
        each = np.mean(weights * differences, 1)[valid]
        np.testing.assert_allclose(found.grad[name], each.mean(), rtol=1e-9)


def test_truncated_es_mixes_the_differences_of_means():
    one = inner(window=(2, 5), horizon=9)
    args = {"inner": one, "num_workers": 8, "noise": NOISE}
    estimator = estimators.build("truncated_es", **args)
    state = estimator.init(THETA, {}, KEY)
    found, _ = jax.jit(estimator.estimate)(THETA, state, {}, KEY)
    both = jax.tree.map(lambda x: jnp.stack([x, x], 1), state)
    _, losses, scores = pairs(one, both, KEY)
    assert not losses.taken.all()
    means = [x.mean(-1) for x in losses.unlikeness]  # 0 where no step was taken
    differences = elo_by_hand(means, np.ones(8, bool), (0.7 * 0.75, 0.3 * 0.75))
    for name in THETA:
        each = scores[name] * differences
        np.testing.assert_allclose(found.grad[name], each.mean(), rtol=1e-9)


def test_differences_of_one_pair_are_their_signs_while_the_expert_leads():
    args = {"inner": inner(horizon=7, hold=9), "num_workers": 1, "noise": NOISE}
    estimator = estimators.build("es", **args)
    state = estimator.init(THETA, {}, KEY)
    found, _ = jax.jit(estimator.estimate)(THETA, state, {}, KEY)
    own_key = jax.random.split(worker_keys(KEY, 1)[0])[1]
    noise_key, _ = jax.random.split(own_key)
    score = NOISE.draw(noise_key, jax.tree.map(jnp.asarray, THETA)).score
    for name, grad in found.grad.items():
        size = float(abs(grad / score[name]))
        assert any(np.isclose(size, 0.01 * x, rtol=1e-9) for x in (0.7 + 0.3, 0.4))


def test_means_of_a_run_are_over_its_own_steps():
    one = inner(horizon=7, noise=0.0)
    worker = one.start(THETA, {}, KEY)
    found = jax.jit(one.run)(THETA, worker, {}, KEY)[1]
    expected = jax.jit(one.unroll, static_argnums=4)(THETA, worker, {}, KEY, 7)[1]
    assert found.value.size == 9
    mean = lambda x: (x.objective.mean(), jax.tree.map(jnp.mean, x.unlikeness))  # noqa: E731
    close(mean(found), mean(expected))


def test_without_imitation_nothing_is_kept():
    one = toys.inner(RULE, toys.quadratic(), window=2, horizon=9)
    worker, losses = one.window(THETA, one.start(THETA, {}, KEY), {}, KEY)
    assert worker.expert == () and losses.unlikeness == ()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(expert=dict(name="muno", args={})), "known: adam, adamw, elo"),
        (
            dict(expert=dict(name="adam", args=dict(learning_rate=0.0))),
            "learning_rate must be positive",
        ),
        (dict(decays=3), "no key 'decays'; did you mean 'decay'"),
        (dict(decay=0), "decay >= 1"),
        (dict(magnitude=0.4), "at most 1 together"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        inner(**changes)


def test_a_config_may_ask_for_an_expert_and_a_buffer():
    c = tiny.get_config("pes")
    c.inner.fresh = 0.2
    c.inner.imitation = settings(expert=dict(name="elo", args={}))
    run = runs.build(c)
    with jax.enable_x64(False):
        state = run.learner.init(run.data)
        for _ in range(2):
            state, metrics = run.learner.step(state, run.data)
    assert metrics["valid"] == 2 and 0 < metrics["direction"] < 2


TARGET = {"matching": "parameters", "target": toys.target()}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("combined", {"noise": toys.noise(0.1), "decay": 0.9}),
        ("bootstrapped", TARGET | {"reuse": False}),
        ("bootstrapped_pes", TARGET | {"span": 1, "noise": toys.noise(0.1)}),
        ("implicit", {"solver": dict(name="cg", steps=1, step_size=None, damping=0.0)}),
    ],
)
def test_estimators_that_cannot_imitate_refuse_it(name, args):
    inner = toys.inner(
        RULE, toys.quadratic(), window=2, horizon=4, imitation=settings()
    )
    with pytest.raises(ValueError, match="set config.inner.imitation = None, or take"):
        estimators.build(name, inner=inner, num_workers=2, **args)
