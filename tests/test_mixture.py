"""A mixture lets one family speak at a meta-step, by weight, and the others wait."""

import jax
import numpy as np
import pytest
import tiny
import toys

import meta_train.run
from evaluation import settings
from meta_train import estimators

KEY = jax.random.key(3)


def pair():
    """Returns truncated estimators of two families."""
    rule = toys.heavy_ball()
    families = {"a": toys.quadratic(), "b": toys.classifier()}
    inners = {n: toys.inner(rule, f, window=2, horizon=9) for n, f in families.items()}
    return {
        n: estimators.build("truncated", inner=inner, num_workers=2)
        for n, inner in inners.items()
    }


def start(mixture):
    theta = toys.heavy_ball().init(KEY)
    return theta, mixture.init(theta, ({}, {}), KEY)


def test_the_drawn_familys_estimate_is_its_own_and_the_others_state_waits():
    theta, (a, b) = start(estimators.mix(pair(), {"a": 0.0, "b": 1.0}))
    mixture = estimators.mix(pair(), {"a": 0.0, "b": 1.0})
    found, after = jax.jit(mixture.estimate)(theta, (a, b), ({}, {}), KEY)
    own_key = jax.random.split(KEY)[1]
    alone, own = jax.jit(pair()["b"].estimate)(theta, b, {}, own_key)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6)  # noqa: E731
    jax.tree.map(close, found.grad, alone.grad)
    jax.tree.map(close, after[1].params, own.params)
    jax.tree.map(np.testing.assert_array_equal, after[0].params, a.params)
    assert float(found.metrics["loss/b"]) == float(found.loss)
    assert np.isnan(found.metrics["loss/a"])


def test_families_are_drawn_by_weight_from_one_compiled_program():
    mixture = estimators.mix(pair(), {"a": 3.0, "b": 1.0})
    theta, state = start(mixture)
    estimate = jax.jit(mixture.estimate)
    keys = jax.random.split(KEY, 400)
    metrics = [estimate(theta, state, ({}, {}), k)[0].metrics for k in keys]
    share = np.mean([np.isfinite(m["loss/a"]) for m in metrics])
    assert abs(share - 0.75) < 3 * (0.75 * 0.25 / 400) ** 0.5
    assert estimate._cache_size() == 1


def test_a_mixture_of_one_is_that_one():
    one = {"a": pair()["a"]}
    mixture = estimators.mix(one, {"a": 2.0})
    theta = toys.heavy_ball().init(KEY)
    state = mixture.init(theta, ({},), KEY)
    found, _ = mixture.estimate(theta, state, ({},), KEY)
    alone, _ = one["a"].estimate(theta, one["a"].init(theta, {}, KEY), {}, KEY)
    jax.tree.map(np.testing.assert_array_equal, found.grad, alone.grad)


@pytest.mark.parametrize(
    "weights", [{"a": 1.0}, {"a": 0.0, "b": 0.0}, {"a": 2, "b": -1}]
)
def test_weights_that_draw_nobody_are_refused(weights):
    with pytest.raises(ValueError, match="need a weight >= 0 for each of a, b"):
        estimators.mix(pair(), weights)


def config(**args):
    found = settings.resolve(tiny.get_config())
    found["family"] = {"name": "train-v1", "args": args}
    return found


def test_a_suite_is_a_mixture_of_its_tasks():
    run = meta_train.run.build(config(mlp=3.0))
    assert list(run.families) == list(meta_train.run.suites.SUITES["train-v1"])
    assert len(run.data) == len(run.families)


def test_a_weight_of_no_task_is_refused():
    with pytest.raises(ValueError, match="unknown task of train-v1 'mpl'.*mean 'mlp'"):
        meta_train.run.build(config(mpl=3.0))
