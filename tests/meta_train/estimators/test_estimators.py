"""What the losses of an inner run are, and which estimators there are."""

import jax
import jax.numpy as jnp
import pytest
import toys
from measured import KEY, close

from meta_train import estimators


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


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


def test_unknown_estimator_lists_the_known():
    with pytest.raises(ValueError, match="known: .*truncated.*Did you mean 'pes'"):
        estimators.build("pse")
