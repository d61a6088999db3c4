"""Numbers of replicas whose true moments are known."""

import numpy as np
import pytest

from meta_train import estimators
from meta_train.study import moments


def drawn(made, mean, *, replicas):
    """Returns a sample of estimates of variance 1 in each entry, ten a replica."""
    size = (replicas, 10, len(mean))
    grads = np.asarray(mean) + made.standard_normal(size)
    zeros = np.zeros(replicas)
    square = np.mean(np.sum(grads**2, axis=2), axis=1)
    return moments.Sample(grads.mean(1), square, zeros, zeros, 1 + zeros)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_numbers_are_right_on_average_and_their_errors_not_too_small(shift):
    made, truth = np.random.default_rng(0), np.eye(50)[0]
    mean = truth + shift * np.eye(50)[1]
    some = moments.Plan(estimators.Estimator(None, None, steps=1), 0, 10)
    found = [
        moments.numbers(
            drawn(made, mean, replicas=12), some, drawn(made, truth, replicas=40)
        )
        for _ in range(100)
    ]
    expected = {
        "bias": shift**2,
        "cosine": 1 / np.hypot(1, shift),
        "snr": (1 + shift**2) / 50,
    }
    for name, value in expected.items():
        values, errors = np.array([row[name] for row in found]).T
        assert abs(values.mean() - value) < 0.02 + 0.05 * value, name
        assert values.std() < 1.2 * errors.mean() < 3 * values.std(), name
    for name in ("variance", "in_row"):
        values = [row[name] for row in found]
        np.testing.assert_allclose(np.mean(values), 50, rtol=0.05, err_msg=name)
