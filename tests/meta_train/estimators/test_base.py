"""Means, variances and keys of workers, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured import KEY

from meta_train.estimators import base

GRADS = {"w": np.arange(12.0, dtype=np.float32).reshape(4, 3) ** 2}


@pytest.mark.parametrize("valid", [[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
def test_only_valid_workers_enter_means_and_their_variance(valid):
    grads, valid = GRADS["w"].copy(), np.array(valid, bool)
    grads[~valid] = np.nan
    mean = base.valid_mean({"w": jnp.asarray(grads)}, jnp.asarray(valid))
    found = base.variance_of_mean({"w": jnp.asarray(grads)}, mean, jnp.asarray(valid))
    seen = grads[valid] if valid.any() else np.zeros((1, 3))
    np.testing.assert_allclose(mean["w"], seen.mean(0), rtol=1e-6)
    spread = seen.var(0) / max(1, len(seen) - 1)
    np.testing.assert_allclose(found["w"], spread, rtol=1e-5)


def test_keys_of_workers_are_their_own_however_many_there_are():
    few, many = (jax.random.key_data(base.worker_keys(KEY, n)) for n in (2, 5))
    np.testing.assert_array_equal(few, many[:2])
    assert len(np.unique(many, axis=0)) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_makes_a_tree_not_finite(value):
    tree = {"a": jnp.ones([2, 3]), "b": jnp.ones([])}
    assert base.all_finite(tree)
    assert not base.all_finite(tree | {"a": tree["a"].at[1, 2].set(value)})


def test_the_root_mean_square_is_over_all_workers_entries_that_count():
    entries = np.float32([[1, 2, np.nan], [3, 4, 5]])
    counts = np.array([[True, True, False], [False, True, True]])
    run = jax.vmap(base.root_mean_square, axis_name=base.WORKERS)
    expected = np.sqrt(np.mean(entries[counts] ** 2))
    np.testing.assert_allclose(run(entries, counts), expected, rtol=1e-6)
