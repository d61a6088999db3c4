"""Bootstrapped gradients against explicit passes, by reverse mode and by PES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY, agree, batch_keys, close, loss_at, run

from meta_train import estimators
from meta_train.estimators.base import worker_keys
from meta_train.estimators.noise import Noise


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def squared(task, goal, candidate, key):
    return sum(jnp.sum((goal[name] - candidate[name]) ** 2) for name in goal)


def kl(task, goal, candidate, key):
    batch_key, loss_key = jax.random.split(key)
    batch = task.batch({}, batch_key, "train")
    logits = [task.loss(p, loss_key, batch)[1]["logits"] for p in (goal, candidate)]
    p, q = (jax.nn.softmax(x) for x in logits)
    return (p * jnp.log(p / q)).sum(-1).mean()


MATCHINGS = {"parameters": squared, "kl": kl}


def descended(family, params, keys, *, baseline, rate):
    """Returns params after SGD or Adam, written out."""
    m = v = jax.tree.map(jnp.zeros_like, params)
    for t, key in enumerate(keys, 1):
        grads = jax.grad(lambda p, key=key: loss_at(family, p, key))(params)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, grads)
        steps = {
            "sgd": grads,
            "adam": jax.tree.map(
                lambda m, v, t=t: (
                    (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
                ),
                m,
                v,
            ),
        }
        params = jax.tree.map(lambda p, s: p - rate * s, params, steps[baseline])
    return params


def passes(rule, family, theta, *, matching, target, window=4, skip=0):
    """Returns the gradient of a match, x_W and where the rule came to, in two passes.

    The first takes `window` steps from x_skip and goes on to the target; the second
    differentiates the distance to it through the `window` steps.
    """
    window_key, objective_key, _ = jax.random.split(worker_keys(KEY, 1)[0], 3)
    target_key, match_key = jax.random.split(objective_key)
    rule_key, last_key = jax.random.split(target_key)
    inner = toys.inner(rule, family, window=1, horizon=99)
    start = inner.start(theta, {}, worker_keys(KEY, 1)[0]).params
    start = (start, rule.bind(theta).init(start))
    step = lambda *args: run(rule, family, theta, *args)[1:]  # noqa: E731
    if skip:
        start = step(*start, batch_keys(window_key, skip))
    keys = batch_keys(window_key, window)
    first = further = step(*start, keys)
    if target["rule_steps"]:
        further = step(*first, batch_keys(rule_key, target["rule_steps"]))
    goal = descended(
        family,
        further[0],
        jax.random.split(last_key, target["baseline_steps"]),
        baseline=target["baseline"],
        rate=target["learning_rate"],
    )

    def distance(theta):
        candidate = run(rule, family, theta, *start, keys)[1]
        return MATCHINGS[matching](family.task(()), goal, candidate, match_key)

    return jax.grad(distance)(theta), first[0], further[0]


def bootstrap(rule, family, *, matching, horizon=99, reuse=False, **target):
    return estimators.build(
        "bootstrapped",
        inner=toys.inner(rule, family, window=4, horizon=horizon),
        num_workers=1,
        matching=matching,
        target=toys.target(**target),
        reuse=reuse,
    )


def first_estimate(estimator, theta):
    state = estimator.init(theta, {}, KEY)
    return jax.jit(estimator.estimate)(theta, state, {}, KEY)


TARGETS = {
    "one step": dict(rule_steps=0, baseline_steps=1, baseline="sgd"),
    "rule first": dict(rule_steps=2, baseline_steps=1, baseline="sgd"),
    "by adam": dict(rule_steps=2, baseline_steps=3, baseline="adam"),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("matching, reuse", [("parameters", True), ("kl", False)])
def test_bootstrapped_equals_two_explicit_passes(name, matching, reuse):
    rule, family, target = toys.heavy_ball(), toys.classifier(), TARGETS[name]
    theta = rule.init(KEY)
    estimator = bootstrap(rule, family, matching=matching, reuse=reuse, **target)
    estimate, after = first_estimate(estimator, theta)
    grad, last, further = jax.jit(
        lambda theta: passes(
            rule, family, theta, matching=matching, target=toys.target(**target)
        )
    )(theta)
    close(estimate.grad, grad, rtol=1e-9)
    close(after.params["w"][0], (further if reuse else last)["w"], rtol=1e-9)
    assert after.step == (4 + target["rule_steps"] if reuse else 4)
    assert after.windows == 1


@pytest.mark.parametrize("horizon, reuse", [(3, False), (5, True)])
def test_a_run_that_ends_inside_a_window_counts_and_ends_with_it(horizon, reuse):
    rule, target = toys.heavy_ball(), TARGETS["rule first"]
    theta, found = rule.init(KEY), []
    for length in (99, horizon):
        estimator = bootstrap(
            rule,
            toys.quadratic(noise=0.1),
            matching="parameters",
            horizon=length,
            reuse=reuse,
            **target,
        )
        found.append(first_estimate(estimator, theta))
    (long, _), (short, after) = found
    jax.tree.map(np.testing.assert_array_equal, short.grad, long.grad)
    assert after.step == 0 and after.windows == 1
    assert (short.metrics["restarts"], long.metrics["restarts"]) == (1, 0)
    np.testing.assert_array_equal(after.params["x"][0], [1.0, -2.0])


def test_one_step_bootstrap_is_twice_rate_times_the_last_loss_gradient():
    rule, family = toys.heavy_ball(), toys.quadratic()
    theta = rule.init(KEY)
    estimator = bootstrap(rule, family, matching="parameters")
    estimate, _ = first_estimate(estimator, theta)

    def last_loss(theta):
        params = family.task(()).init(KEY)
        state = rule.bind(theta).init(params)
        return run(rule, family, theta, params, state, batch_keys(KEY, 4))[0][-1]

    expected = jax.jit(jax.grad(lambda t: 2 * 0.2 * last_loss(t)))(theta)
    close(estimate.grad, expected, rtol=1e-9)


@pytest.mark.parametrize("name", TARGETS)
def test_a_rule_that_does_nothing_does_not_match_its_target(name):
    rule, theta = toys.drift(), jnp.zeros([])
    for family, matching in [
        (toys.quadratic(), "parameters"),
        (toys.classifier(), "kl"),
    ]:
        estimator = bootstrap(rule, family, matching=matching, **TARGETS[name])
        estimate, _ = first_estimate(estimator, theta)
        assert estimate.metrics["objective"] > 1e-4
        if matching == "parameters":
            assert abs(estimate.grad) > 1e-4


@pytest.mark.parametrize(
    "target, cure",
    [
        (dict(baseline_steps=0), "baseline_steps >= 1, got 0 and 0"),
        (dict(rule_steps=-1), "rule_steps >= 0 and"),
        (dict(baseline="adm"), "Did you mean 'adam'"),
        (dict(learning_rate=0.0), "learning_rate > 0, got 0.0"),
    ],
)
def test_a_target_that_does_nothing_could_match_is_refused(target, cure):
    with pytest.raises(ValueError, match=cure):
        bootstrap(toys.drift(), toys.quadratic(), matching="parameters", **target)


@pytest.mark.parametrize("valid_weight, moved", [(0.0, 0.2), (0.25, 0.0), (1.0, 0.6)])
def test_a_target_descends_both_splits_in_their_shares(valid_weight, moved):
    slopes = {"train": 1.0, "outer_valid": -3.0}
    family = toys.family_of(lambda x, slope: jnp.sum(slope * x), [0.0])
    task = family.task(())._replace(batch=lambda data, key, split: slopes[split])
    inner = toys.inner(
        toys.drift(),
        family._replace(task=lambda draw: task),
        window=1,
        horizon=9,
        valid_weight=valid_weight,
    )
    estimator = estimators.build(
        "bootstrapped",
        inner=inner,
        num_workers=1,
        matching="parameters",
        target=toys.target(),
        reuse=False,
    )
    estimate, _ = first_estimate(estimator, jnp.zeros([]))
    np.testing.assert_allclose(estimate.metrics["objective"], moved**2, atol=1e-12)


def by_pes(rule, family, theta, *, num_windows, window, horizon=99, **args):
    """Returns estimates of 20,000 pairs, one for each of several windows."""
    noise = toys.noise(**args.pop("noise"))
    estimator = estimators.build(
        "bootstrapped_pes",
        inner=toys.inner(rule, family, window=window, horizon=horizon),
        num_workers=1,
        noise=noise,
        **args,
    )
    keys, found = jax.random.split(jax.random.key(5), 20_000), []
    first = estimator.init(theta, {}, KEY)
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(keys), *x.shape)), first)
    estimate = jax.jit(
        jax.vmap(lambda state, key: estimator.estimate(theta, state, {}, key))
    )
    for index in range(num_windows):
        out, state = estimate(
            state, jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        )
        found.append(out.grad)
    return found


@pytest.mark.parametrize(
    "matching, span, seen",
    [
        ("kl", 1, [(0, 2), (2, 2)]),
        pytest.param("parameters", 2, [(0, 2), (0, 4), (4, 2)], marks=pytest.mark.slow),
    ],
)
def test_matching_by_pes_is_reverse_mode_through_all_windows_since_parting(
    matching, span, seen
):
    rule, family = toys.heavy_ball(), toys.classifier(noise=0.0)
    theta, target = rule.init(KEY), TARGETS["rule first"]
    settings = dict(matching=matching, target=toys.target(**target))
    found = by_pes(
        rule,
        family,
        theta,
        num_windows=len(seen),
        window=2,
        span=span,
        noise=dict(sigma=1e-4),
        **settings,
    )
    for grad, (skip, window) in zip(found, seen, strict=True):
        exact = jax.jit(
            lambda theta, skip=skip, window=window: passes(
                rule, family, theta, skip=skip, window=window, **settings
            )[0]
        )(theta)
        agree(grad, jax.tree.map(lambda x: x[None], exact))


@pytest.mark.parametrize("span, horizon", [(2, 99), (3, 8)])
@pytest.mark.parametrize("antithetic", [True, False])
def test_matching_by_pes_is_unbiased_where_losses_are_linear(span, horizon, antithetic):
    # x_W is W delta from the run along theta and the target rate further down: the
    # slope of (W delta + rate)^2 is 2 rate W, twice that after two windows, then again.
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    found = by_pes(
        toys.drift(),
        family,
        jnp.zeros([]),
        num_windows=4,
        window=4,
        horizon=horizon,
        span=span,
        matching="parameters",
        target=toys.target(learning_rate=0.2),
        noise=dict(sigma=0.1, antithetic=antithetic),
    )
    for index, grad in enumerate(found):
        agree(grad, np.full(1, 2 * 0.2 * 4 * (1 + index % 2)))


def test_targets_of_matching_by_pes_are_made_along_theta_itself():
    # theta is 0: the rule stays, SGD goes 0.2 down, the pair 4 kicks up and down.
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    noise, theta = Noise(**toys.noise(1.0)), jnp.zeros([])
    one = estimators.build(
        "bootstrapped_pes",
        inner=toys.inner(toys.drift(), family, window=4, horizon=99),
        num_workers=1,
        matching="parameters",
        target=toys.target(rule_steps=2, learning_rate=0.2),
        span=1,
        noise=noise,
    )
    found, after = first_estimate(one, theta)
    noise_key = jax.random.split(worker_keys(KEY, 1)[0], 5)[0]
    kick = float(noise.draw(noise_key, theta).move[0])
    close(found.metrics["objective"], (4 * kick) ** 2 + 0.2**2)
    assert after.worker.params["x"] == 0


def test_matching_predictions_of_a_task_without_any_is_refused():
    estimator = bootstrap(toys.heavy_ball(), toys.quadratic(), matching="kl")
    with pytest.raises(ValueError, match="no logits.*try 'parameters'"):
        first_estimate(estimator, toys.heavy_ball().init(KEY))
