"""Workers start staggered, restart when due or diverged, and compile once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toys

from meta_train import estimators, learner, unroll
from meta_train.run import worker_mesh

KEY = jax.random.key(3)


def test_a_diverged_worker_is_masked_and_restarts():
    family = toys.family_of(lambda x, batch: jnp.sum(jnp.log(x + batch)), [1.0], 1.0)
    inner = toys.inner(toys.heavy_ball(), family, window=3, horizon=30)
    estimator = estimators.build("truncated", inner=inner, num_workers=64)
    theta = toys.heavy_ball().init(KEY)
    state = estimator.init(theta, {}, KEY)
    estimate, state = jax.jit(estimator.estimate)(theta, state, {}, KEY)
    assert 0 < estimate.metrics["diverged"] < 64
    assert estimate.metrics["diverged"] + estimate.metrics["valid"] == 64
    assert bool(jnp.isfinite(estimate.loss)) and bool(
        jnp.isfinite(state.params["x"]).all()
    )
    assert int((state.step == 0).sum()) == estimate.metrics["diverged"]


def test_workers_restart_at_their_horizon_and_start_staggered():
    inner = toys.inner(
        toys.heavy_ball(), toys.quadratic(), window=3, horizon=5, stagger=True
    )
    estimator = estimators.build("truncated", inner=inner, num_workers=64)
    theta = toys.heavy_ball().init(KEY)
    state = estimator.init(theta, {}, KEY)
    assert set(np.array(state.step)) == {0, 1, 2, 3, 4}
    estimate, after = jax.jit(estimator.estimate)(theta, state, {}, KEY)
    np.testing.assert_array_equal(after.step, (state.step + 3) % 5)
    assert estimate.metrics["restarts"] == (state.step >= 2).sum()


def test_horizons_are_log_uniform_between_their_bounds():
    keys = jax.random.split(KEY, 20_000)
    horizons = jax.vmap(lambda key: unroll._log_uniform(key, 10, 1000))(keys)
    assert horizons.min() == 10 and horizons.max() <= 1000
    assert abs(float((horizons < 100).mean()) - 0.5) < 0.02


def test_weakly_typed_theta_does_not_compile_twice():
    rule, family = toys.heavy_ball(), toys.quadratic()
    assert rule.init(KEY)["log_lr"].weak_type
    inner = toys.inner(rule, family, window=1, horizon=3)
    learn = learner.build(
        rule=rule,
        estimator=estimators.build("truncated", inner=inner, num_workers=1),
        outer=optax.sgd(0.1),
        average=0.9,
        seed=0,
        mesh=worker_mesh(),
    )
    state = learn.init(family.data)
    for _ in range(2):
        state, _ = learn.step(state, family.data)
    assert learn.step._cache_size() == 1
