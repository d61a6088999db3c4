"""Kicks and what differences of a pair are worth, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY

from meta_train.estimators import noise
from meta_train.estimators.noise import Noise

THETA = {"a": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones([])}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_noise_relative_to_leaves_is_sigma_where_all_are_zero():
    theta = {"a": jnp.zeros([2, 3]), "b": jnp.zeros([])}
    kicks = [
        Noise(**toys.noise(0.1, per_leaf=relative)).draw(KEY, theta)
        for relative in (True, False)
    ]
    jax.tree.map(np.testing.assert_array_equal, *kicks)


@pytest.mark.parametrize("antithetic", [True, False])
def test_scores_are_halves_of_what_parts_a_pair_over_the_variance(antithetic):
    kick = Noise(sigma=0.1, antithetic=antithetic).draw(KEY, THETA)
    for name, (plus, minus) in kick.move.items():
        expected = (plus - minus) / (2 * 0.1**2 * (1 + antithetic))
        np.testing.assert_allclose(kick.score[name], expected, rtol=1e-5)
        assert np.allclose(plus, -minus) == antithetic
        assert 0 < np.abs(plus).max() < 0.1 * 5


def test_noise_per_leaf_is_relative_to_its_size_or_to_a_tenth_of_all():
    theta = {"large": jnp.full(4, 3.0), "small": jnp.full(4, 1e-3)}
    own, plain = (
        Noise(sigma=0.1, per_leaf=x).draw(KEY, theta).move for x in (True, False)
    )
    np.testing.assert_allclose(own["large"], 3 * plain["large"], rtol=1e-5)
    rms = (9 / 2 + 1e-6 / 2) ** 0.5
    np.testing.assert_allclose(own["small"], 0.1 * rms * plain["small"], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, [-3, 0.5]), ({"clip": 1.0}, [-1, 0.5]), ({"sign": True}, [-1, 1])],
)
def test_differences_are_plus_less_minus_as_far_as_they_count(changes, expected):
    losses = jnp.array([[1.0, 2.0], [4.0, 1.5]])
    found = Noise(**toys.noise(0.1, **changes)).differences(losses)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"sigma": -1.0}, {"clip": 0.0}])
def test_noise_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="sigma > 0 and clip > 0 or None"):
        Noise(**wrong)


def test_leaves_drawn_together_are_those_drawn_one_by_one(monkeypatch):
    monkeypatch.setattr(noise, "TOGETHER", 6)
    shapes = {"float32": [(2, 3), (), (7,), (5, 2)], "float64": [(1, 4), (6,)]}
    like = [jnp.zeros(x, dtype) for dtype, xs in shapes.items() for x in xs]
    keys = jax.random.split(KEY, len(like))
    for key, x, found in zip(keys, like, noise.normals(keys, like), strict=True):
        expected = jax.random.normal(key, x.shape, x.dtype)
        np.testing.assert_array_equal(found, expected, strict=True)
