"""Meta-gradients against loops, explicit passes and exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from meta_train import estimators
from meta_train.estimators.base import worker_keys

KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def batch_keys(key, num_steps):
    """Returns the batch keys that a window of `unroll` draws from `key`."""
    return jax.random.split(jax.random.split(key)[0], num_steps + 1)


def loss_at(family, params, key):
    batch_key, loss_key = jax.random.split(key)
    task = family.task(())
    return task.loss(params, loss_key, task.batch({}, batch_key, "train"))[0]


def run(rule, family, theta, params, state, keys):
    """Returns the losses of a plain Python loop, params and the rule's state."""
    tx, losses = rule.bind(theta), []
    for key, next_key in zip(keys[:-1], keys[1:], strict=True):
        grads = jax.grad(lambda p, key=key: loss_at(family, p, key))(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(loss_at(family, params, next_key))
    return jnp.stack(losses), params, state


def close(tree, expected, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol), tree, expected)


def test_truncated_with_window_of_horizon_equals_a_python_loop():
    rule, family = toys.heavy_ball(), toys.quadratic(noise=0.5)
    inner = toys.inner(rule, family, window=6, horizon=6)
    estimator = estimators.build("truncated", inner=inner, num_workers=3)
    theta = rule.init(KEY)
    workers = estimator.init(theta, {}, KEY)
    estimate, _ = jax.jit(estimator.estimate)(theta, workers, {}, KEY)

    def mean_loss(theta):
        losses = []
        for key in worker_keys(KEY, 3):
            keys = batch_keys(jax.random.split(key, 3)[0], 6)
            params = family.task(()).init(KEY)
            state = rule.bind(theta).init(params)
            losses.append(run(rule, family, theta, params, state, keys)[0].mean())
        return jnp.stack(losses).mean()

    loss, grad = jax.jit(jax.value_and_grad(mean_loss))(theta)
    close((estimate.loss, estimate.grad), (loss, grad))


def test_log_offset_makes_the_loss_its_logarithm():
    rule, family = toys.heavy_ball(), toys.quadratic()
    theta = rule.init(KEY)
    losses = []
    for log_offset in (None, 0.1):
        inner = toys.inner(rule, family, window=4, horizon=9, log_offset=log_offset)
        worker = inner.start(theta, {}, KEY)
        losses.append(jax.jit(inner.window)(theta, worker, {}, KEY)[1].value)
    close(losses[1], jnp.log(0.1 + losses[0]))


def test_meta_loss_weighs_the_losses_on_two_splits():
    shifts = {"train": 0.0, "outer_valid": 1.0}  # of the gradient, by split
    family = toys.quadratic()
    task = family.task(())._replace(
        batch=lambda data, key, split: jnp.full(2, shifts[split])
    )
    family = family._replace(task=lambda draw: task)
    rule, losses = toys.heavy_ball(), {}
    for weight in (0.0, 0.25, 1.0):
        inner = toys.inner(rule, family, window=1, horizon=9, valid_weight=weight)
        worker = inner.start(rule.init(KEY), {}, KEY)
        after, found = jax.jit(inner.window)(rule.init(KEY), worker, {}, KEY)
        (losses[weight],) = found.value
        x = after.params["x"]
    train = 0.5 * (x[0] ** 2 + 4 * x[1] ** 2)
    close(losses, {w: train + w * x.sum() for w in losses})


def explicit_bootstrap(
    rule, family, theta, *, window, extra, rate, matching, horizon=99
):
    """Returns the bootstrapped gradient of one worker in two explicit passes."""
    window_key, objective_key, _ = jax.random.split(worker_keys(KEY, 1)[0], 3)
    target_key, match_key = jax.random.split(objective_key)
    unroll_key, last_key = jax.random.split(target_key)
    (last_key,) = jax.random.split(last_key, 1)
    start = estimators.build(
        "truncated",
        inner=toys.inner(rule, family, window=1, horizon=horizon),
        num_workers=1,
    ).init(theta, {}, KEY)
    params = jax.tree.map(lambda x: x[0], start.params)
    state = rule.bind(theta).init(params)
    keys = batch_keys(window_key, window)
    step = jax.jit(lambda *args: run(rule, family, theta, *args))
    _, goal, state_w = step(params, state, keys)
    if extra > 1:
        _, goal, _ = step(goal, state_w, batch_keys(unroll_key, extra - 1))
    grads = jax.jit(jax.grad(lambda p: loss_at(family, p, last_key)))(goal)
    goal = jax.tree.map(lambda p, g: p - rate * g, goal, grads)

    def distance(theta):
        return matching(
            goal, run(rule, family, theta, params, state, keys)[1], match_key
        )

    return jax.jit(jax.grad(distance))(theta)


def squared(goal, candidate, key):
    return sum(jnp.sum((goal[name] - candidate[name]) ** 2) for name in goal)


def kl(goal, candidate, key):
    task = toys.classifier().task(())
    batch_key, loss_key = jax.random.split(key)
    batch = task.batch({}, batch_key, "train")
    logits = [task.loss(p, loss_key, batch)[1]["logits"] for p in (goal, candidate)]
    p, q = (jax.nn.softmax(x) for x in logits)
    return (p * jnp.log(p / q)).sum(-1).mean()


def bootstrap(rule, family, *, matching, extra, rate=0.2, horizon=99):
    return estimators.build(
        "bootstrapped",
        inner=toys.inner(rule, family, window=4, horizon=horizon),
        num_workers=1,
        matching=matching,
        target=toys.target(rule_steps=extra - 1, learning_rate=rate),
        reuse=False,
    )


@pytest.mark.parametrize(("extra", "horizon"), [(1, 99), (3, 99), (3, 4), (1, 3)])
@pytest.mark.parametrize("matching", [("parameters", squared), ("kl", kl)])
def test_bootstrapped_equals_two_explicit_passes(matching, extra, horizon):
    rule, family = toys.heavy_ball(), toys.classifier()
    theta, (name, distance) = rule.init(KEY), matching
    estimator = bootstrap(rule, family, matching=name, extra=extra, horizon=horizon)
    state = estimator.init(theta, {}, KEY)
    estimate, after = jax.jit(estimator.estimate)(theta, state, {}, KEY)
    # A run that reaches its horizon in the window ends with it, but still counts.
    assert after.step == (4 if horizon == 99 else 0)
    assert estimate.metrics["restarts"] == (horizon < 99)
    expected = explicit_bootstrap(
        rule, family, theta, window=4, extra=extra, rate=0.2, matching=distance
    )
    close(estimate.grad, expected, rtol=1e-9)


def test_one_step_bootstrap_is_twice_rate_times_the_last_loss_gradient():
    rule, family = toys.heavy_ball(), toys.quadratic()
    theta = rule.init(KEY)
    estimator = bootstrap(rule, family, matching="parameters", extra=1, rate=0.2)
    state = estimator.init(theta, {}, KEY)
    estimate, _ = jax.jit(estimator.estimate)(theta, state, {}, KEY)

    def last_loss(theta):
        params = family.task(()).init(KEY)
        state = rule.bind(theta).init(params)
        keys = batch_keys(KEY, 4)
        return run(rule, family, theta, params, state, keys)[0][-1]

    expected = jax.jit(jax.grad(lambda t: 2 * 0.2 * last_loss(t)))(theta)
    close(estimate.grad, expected, rtol=1e-9)


@pytest.mark.parametrize("extra", [1, 3])
def test_a_rule_that_does_nothing_does_not_match_its_target(extra):
    rule, theta = toys.drift(), jnp.zeros([])
    for family, matching in [
        (toys.quadratic(), "parameters"),
        (toys.classifier(), "kl"),
    ]:
        estimator = bootstrap(rule, family, matching=matching, extra=extra)
        state = estimator.init(theta, {}, KEY)
        estimate, _ = jax.jit(estimator.estimate)(theta, state, {}, KEY)
        assert estimate.metrics["objective"] > 1e-4
        if matching == "parameters":
            assert abs(estimate.grad) > 1e-4


def pes_cycle(rule, family, theta, *, sigma, num_workers, num_windows):
    """Returns mean and standard error of PES with T = 7 and W = 5 over a cycle."""
    inner = toys.inner(rule, family, window=5, horizon=7)
    estimator = estimators.build(
        "pes", inner=inner, num_workers=1, noise=toys.noise(sigma)
    )
    estimate = jax.jit(jax.vmap(estimator.estimate, in_axes=(None, 0, None, 0)))
    state = jax.vmap(lambda key: estimator.init(theta, {}, key))(
        jax.random.split(KEY, num_workers)
    )
    grads = []
    for key in jax.random.split(jax.random.fold_in(KEY, 1), num_windows):
        keys = jax.random.split(key, num_workers)
        out, state = estimate(theta, state, {}, keys)
        grads.append(out.grad)
    means = jax.tree.map(lambda *g: jnp.stack(g).mean(0), *grads)
    scale = num_workers**-0.5
    return jax.tree.map(lambda g: (g.mean(), g.std() * scale), means)


def test_pes_is_unbiased_across_restarts_on_a_linear_problem():
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    mean, error = pes_cycle(
        toys.drift(),
        family,
        jnp.zeros([]),
        sigma=1.0,
        num_workers=20_000,
        num_windows=7,
    )
    assert abs(mean - 4) < 3 * error and error < 0.05  # mean of 1, ..., 7


def test_pes_agrees_with_the_exact_gradient_of_a_quadratic():
    rule, family = toys.heavy_ball(), toys.quadratic(noise=0.1)
    theta = rule.init(KEY)
    estimates = pes_cycle(
        rule, family, theta, sigma=1e-3, num_workers=20_000, num_windows=7
    )

    def mean_loss(theta, key):
        params = family.task(()).init(KEY)
        state = rule.bind(theta).init(params)
        return run(rule, family, theta, params, state, batch_keys(key, 7))[0].mean()

    keys = jax.random.split(jax.random.key(9), 20_000)
    exact = jax.jit(jax.vmap(jax.grad(mean_loss), (None, 0)))(theta, keys)
    for name, (mean, error) in estimates.items():
        noise = exact[name].std() / len(keys) ** 0.5
        assert abs(mean - exact[name].mean()) < 3 * jnp.hypot(error, noise), name
        assert error < 0.2 * abs(exact[name].mean()), name


def test_unknown_estimator_lists_the_known():
    with pytest.raises(ValueError, match="known: .*truncated.*Did you mean 'pes'"):
        estimators.build("pse")
