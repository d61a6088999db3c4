"""Reverse mode is exact: through a window, weighted, smoothed, or a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import toys
from measured import KEY, batch_keys, close, run

from lopt.types import LearnedOptimizer
from meta_train import estimators
from meta_train.estimators.base import worker_keys
from meta_train.estimators.noise import Noise

RULE = toys.heavy_ball()


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def family():
    return toys.quadratic(noise=0.5)


def estimated(name, *, window=6, horizon=6, num_workers=3, **args):
    """Returns the first estimate, from the start of a run."""
    inner = toys.inner(RULE, family(), window=window, horizon=horizon)
    estimator = estimators.build(name, inner=inner, num_workers=num_workers, **args)
    theta = RULE.init(KEY)
    state = estimator.init(theta, {}, KEY)
    return jax.jit(estimator.estimate)(theta, state, {}, KEY)[0]


def losses(theta, keys):
    """Returns the losses of a Python loop, a step for each key but the last."""
    params = family().task(()).init(KEY)
    return run(RULE, family(), theta, params, RULE.bind(theta).init(params), keys)[0]


def window_keys(worker):
    return batch_keys(jax.random.split(worker, 3)[0], 6)


@pytest.mark.parametrize("name, decay", [("truncated", None), ("multi_step", 0.8)])
def test_estimate_of_a_run_of_one_window_equals_a_python_loop(name, decay):
    estimate = estimated(name, **({"decay": decay} if decay else {}))
    weights = (decay or 1.0) ** np.arange(6)

    def value(theta):
        each = jax.vmap(lambda key: losses(theta, window_keys(key)))
        return jnp.mean(each(worker_keys(KEY, 3)) @ (weights / weights.sum()))

    value, grad = jax.jit(jax.value_and_grad(value))(RULE.init(KEY))
    close((estimate.metrics["objective"], estimate.grad), (value, grad))


def test_smoothed_is_the_mean_of_two_gradients():
    noise = toys.noise(0.1, shared_batches=False)
    estimate = estimated("smoothed", num_workers=1, noise=noise)
    noise_key, window_key, _ = jax.random.split(worker_keys(KEY, 1)[0], 3)
    theta = RULE.init(KEY)
    kick = Noise(**noise).draw(noise_key, theta).move
    thetas = jax.tree.map(lambda t, k: t[None] + k, theta, kick)

    def value(theta, salt):
        return losses(theta, batch_keys(window_key, 6, salt)).mean()

    sides = jax.jit(jax.vmap(jax.grad(value)))(thetas, jnp.arange(2))
    close(estimate.grad, jax.tree.map(jnp.mean, sides))
    assert jnp.ptp(sides["decay"]) > 0.01


def test_full_gradient_of_runs_of_each_length_equals_a_python_loop():
    inner = toys.inner(RULE, family(), window=2, horizon=(3, 7))
    estimator = estimators.build("full", inner=inner, num_workers=1, clip=None)
    theta, count = RULE.init(KEY), jnp.zeros(1, jnp.int32)

    def both(key):
        fresh_key, own_key = jax.random.split(worker_keys(key, 1)[0])
        horizon = inner.fresh(theta, {}, fresh_key, count[0]).horizon
        keys = batch_keys(own_key, 9)[:8]  # of 3 x 3 steps, of which 7 may count
        each = jax.jacfwd(lambda t: losses(t, keys))(theta)
        return horizon, estimator.estimate(theta, count, {}, key)[0].grad, each

    horizons, found, each = jax.jit(jax.vmap(both))(jax.random.split(KEY, 24))
    assert set(horizons.tolist()) == {3, 4, 5, 6, 7}
    counts = jnp.arange(7)[None] < horizons[:, None]
    close(found, jax.tree.map(lambda g: jnp.mean(g, 1, where=counts), each))


def test_full_clips_the_gradient_of_each_run():
    keys = [batch_keys(jax.random.split(k)[1], 6) for k in worker_keys(KEY, 3)]
    theta = RULE.init(KEY)
    each = jax.vmap(jax.grad(lambda t, keys: losses(t, keys).mean()), (None, 0))
    grads = jax.jit(each)(theta, jnp.stack(keys))
    norms = jnp.sqrt(sum(jnp.square(g) for g in jax.tree.leaves(grads)))
    clip = float(jnp.median(norms))
    assert norms.min() < 0.99 * clip and norms.max() > 1.01 * clip
    scaled = jax.tree.map(lambda g: (g * jnp.minimum(1, clip / norms)).mean(), grads)
    close(estimated("full", clip=clip).grad, scaled)


def test_full_refuses_a_bound_that_is_not_positive():
    with pytest.raises(ValueError, match="clip must be positive or None, got clip=0"):
        estimated("full", clip=0.0)


def without_slope():
    """Returns the rule of steps theta, whose derivative is NaN though they are not."""

    def bind(theta, *, num_steps=None):
        def update(grads, state, params=None, **extra):
            # The root that is not taken has an infinite slope: 0 times it is NaN.
            size = jnp.where(theta == theta, theta, jnp.sqrt(0 * theta))
            return jax.tree.map(lambda g: 0 * g + size, grads), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    return LearnedOptimizer(lambda key: jnp.full([], 0.1), bind)


@pytest.mark.parametrize(
    "name",
    ["truncated", "multi_step", "smoothed", "full", "combined", "bootstrapped"],
)
def test_a_gradient_that_is_nan_makes_a_worker_of_finite_losses_invalid(name):
    rule = without_slope()
    inner = toys.inner(rule, family(), window=2, horizon=4)
    args = tiny.estimators()[name]
    one = estimators.build(name, inner=inner, num_workers=2, **args)
    theta = rule.init(KEY)
    found, _ = jax.jit(one.estimate)(theta, one.init(theta, {}, KEY), {}, KEY)
    assert found.metrics["diverged"] == 2  # of `combined`, those of `smoothed`
    assert found.metrics["valid"] == (2 if name == "combined" else 0)
    assert jnp.isfinite(found.grad)
