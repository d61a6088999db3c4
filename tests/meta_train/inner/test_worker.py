"""Workers start staggered, restart when due or diverged, and compile once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from meta_train import estimators, learner
from meta_train.build import worker_mesh
from meta_train.inner import options, training

KEY = jax.random.key(3)


@pytest.mark.parametrize("name", ["truncated", "pes"])
def test_a_diverged_worker_is_masked_and_restarts(name):
    family = toys.family_of(lambda x, batch: jnp.sum(jnp.log(x + batch)), [1.0], 1.0)
    inner = toys.inner(toys.heavy_ball(), family, window=3, horizon=30)
    args = {"noise": toys.noise(1e-3)} if name == "pes" else {}
    estimator = estimators.build(name, inner=inner, num_workers=64, **args)
    theta = toys.heavy_ball().init(KEY)
    state = estimator.init(theta, {}, KEY)
    estimate, state = jax.jit(estimator.estimate)(theta, state, {}, KEY)
    assert 0 < estimate.metrics["diverged"] < 64
    assert estimate.metrics["diverged"] + estimate.metrics["valid"] == 64
    assert bool(jnp.isfinite(estimate.loss))
    worker = state.pair if name == "pes" else state
    assert bool(jnp.isfinite(worker.params["x"]).all())
    restarted = worker.step.reshape(64, -1)[:, 0] == 0
    assert int(restarted.sum()) == estimate.metrics["diverged"]
    if name == "pes":
        assert bool(((state.score["decay"] == 0) == restarted).all())


def growing(shape, base_shape):
    """Returns a quadratic whose one leaf grows from `base_shape`."""
    family = toys.family_of(lambda x, batch: 0.5 * jnp.sum(x**2), jnp.ones(shape))
    return family._replace(base_shapes={"x": jax.ShapeDtypeStruct(base_shape, float)})


def test_a_worker_trains_under_its_schedule_and_mup():
    rule = toys.heavy_ball()
    inner = options.inner(
        rule=rule,
        family=growing((4, 6), (2, 3)),
        window=5,
        horizon=(8, 8),
        growth=0,
        reduce="mean",
        valid_weight=0.0,
        log_offset=None,
        schedule={"name": "linear", "peak": 2.0},
        stagger=False,
        fresh=1.0,
        imitation=None,
    )
    theta = rule.init(KEY)
    worker, losses = inner.window(theta, inner.start(theta, {}, KEY), {}, KEY)
    x, momentum = 1.0, 0.0
    for step in range(5):
        momentum = 0.5 * momentum + x
        x -= 2.0 * (1 - step / 8) * 0.1 * momentum / 2  # 1/r_in = 2/4
        np.testing.assert_allclose(losses.value[step], 24 * x**2 / 2, rtol=1e-5)
    np.testing.assert_allclose(worker.params["x"], x, rtol=1e-5)


def test_a_rule_is_told_the_horizon_of_its_run():
    def bind(theta, *, num_steps):
        update = lambda g, s, p: (jax.tree.map(lambda x: 0 * x - num_steps, g), s)  # noqa: E731
        return optax.GradientTransformation(lambda p: (), update)

    rule = toys.drift()._replace(bind=bind)
    inner = toys.inner(rule, toys.quadratic(), window=1, horizon=9)
    start = inner.start(0.0, {}, KEY)
    after, _ = inner.window(0.0, start, {}, KEY)
    np.testing.assert_allclose(start.params["x"] - after.params["x"], 9.0)


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
    horizons = jax.vmap(lambda key: training._log_uniform(key, 10, 1000))(keys)
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
    assert learn.programs[0]._cache_size() == 1
