"""Two estimators combined: weights of the past, no bias, and no more variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY, THETA, agree, sampled, smoothed

from meta_train.estimators import Estimate, Estimator
from meta_train.estimators.combined import combine, combined
from meta_train.estimators.noise import Noise


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def scripted(grads, variances, valid):
    """Returns the estimator that finds these, one by one, with its count for state."""

    def estimate(theta, state, data, key):
        at = lambda values: jnp.asarray(values)[state[0]]  # noqa: E731
        metrics = dict(valid=at(valid), diverged=0, restarts=0, objective=at(grads))
        found = Estimate({"a": at(grads)}, at(grads), metrics, {"a": at(variances)})
        return found, state + 1

    return Estimator(lambda theta, data, key: jnp.zeros(1, jnp.int32), estimate, 3)


def combinations(first, second, *, decay):
    """Returns what is found meta-step by meta-step."""
    one = combine(scripted(*first), scripted(*second), decay=decay)
    state, found = one.init({"a": jnp.zeros([])}, {}, KEY), []
    for _ in first[0]:
        estimate, state = one.estimate({"a": jnp.zeros([])}, state, {}, KEY)
        found.append(estimate)
    return found


def test_weights_are_inverse_variances_of_steps_before():
    found = combinations(
        ([1.0, 2.0, 3.0, 4.0], [1.0, 5.0, 2.0, 9.0], [2, 2, 2, 2]),
        ([10.0, 20.0, 30.0, 40.0], [3.0, 4.0, 6.0, 0.0], [2, 2, 2, 2]),
        decay=0.5,
    )
    # Means: 1, (1 + 5) / 2, (3 + 2) / 2 beside 3, (3 + 4) / 2, (3.5 + 6) / 2.
    weights = [1 / 2, 3 / (1 + 3), 3.5 / (3 + 3.5), 4.75 / (2.5 + 4.75)]
    grads = [(10 - 9 * w) * a for a, w in enumerate(weights, 1)]
    np.testing.assert_allclose([x.grad["a"] for x in found], grads, rtol=1e-12)
    w = weights[1]
    np.testing.assert_allclose(found[1].variance["a"], w**2 * 5 + (1 - w) ** 2 * 4)
    assert found[1].metrics["valid"] == 4 and found[1].loss == 11


def test_one_without_a_valid_worker_does_not_speak_nor_count():
    found = combinations(
        ([1.0, 0.0, 0.0, 4.0], [1.0, 7.0, 7.0, 1.0], [2, 0, 0, 2]),
        ([10.0, 20.0, 0.0, 40.0], [3.0, 3.0, 7.0, 3.0], [2, 2, 0, 2]),
        decay=0.5,
    )
    grads = [float(x.grad["a"]) for x in found]
    assert grads == pytest.approx([5.5, 20, 0, 0.75 * 4 + 0.25 * 40])
    assert [float(x.loss) for x in found[:2]] == [5.5, 20]
    assert jnp.isnan(found[2].loss) and found[2].metrics["valid"] == 0


def heavy(name, *, batches, **args):
    family = toys.quadratic(noise=batches)
    inner = toys.inner(toys.heavy_ball(), family, window=7, horizon=7)
    return sampled(name, inner, THETA, noise=dict(sigma=0.1), **args)


def test_combination_is_unbiased():
    # With two workers variances are rough: those of the same sample would bias it.
    settings = dict(count=10_000, decay=0.5)
    found = heavy("combined", batches=0.1, num_workers=2, num_windows=5, **settings)
    scales = dict.fromkeys(THETA, 0.1)
    agree(found, smoothed(THETA, scales=scales, batches=0.1, of=jnp.mean, every=7))


@pytest.mark.slow
def test_combination_varies_no_more_than_the_better_of_the_two():
    settings = dict(batches=4.0, count=1000, num_workers=8, num_windows=2, skip=8)
    first, second, both = (
        jax.tree.map(jnp.var, heavy(name, **settings, **args))
        for name, args in {
            "truncated_es": {},
            "smoothed": {},
            "combined": {"decay": 0.9},
        }.items()
    )
    for leaf, variance in both.items():
        a, b = first[leaf], second[leaf]
        assert 0.9 * a * b / (a + b) < variance < min(a, b)


@pytest.mark.parametrize("cut", [dict(sign=True), dict(clip=0.1)])
def test_differences_that_are_cut_for_one_alone_are_refused(cut):
    inner = toys.inner(toys.heavy_ball(), toys.quadratic(), window=2, horizon=4)
    noise = Noise(**toys.noise(0.1, **cut))
    with pytest.raises(ValueError, match="no differences to cut; set sign = False"):
        combined(inner=inner, num_workers=2, noise=noise, decay=0.9)
