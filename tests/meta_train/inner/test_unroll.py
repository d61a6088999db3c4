"""Ways to step on, where the t-th loss of a run is t theta."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY, close

from meta_train.inner.objectives import REDUCTIONS

THETA = jnp.float32(0.5)


def start(**changes):
    """Returns inner training whose losses grow by theta each step, and a worker."""
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    inner = toys.inner(toys.drift(), family, window=5, **{"horizon": 7} | changes)
    return inner, inner.start(THETA, {}, KEY)


def test_an_unrolled_run_goes_on_past_its_horizon():
    inner, worker = start()
    after, losses = inner.unroll(THETA, worker, {}, KEY, 9)
    np.testing.assert_allclose(losses.value, 0.5 * np.arange(1, 10))
    assert after.step == 9 and losses.taken.all() and not losses.later.any()


def test_a_window_ends_a_run_at_its_horizon_and_begins_the_next():
    inner, worker = start()
    after, _ = inner.window(THETA, worker, {}, KEY)
    assert (after.step, after.windows) == (5, 1)
    after, losses = inner.window(THETA, after, {}, KEY)
    np.testing.assert_allclose(losses.value, [3.0, 3.5, 0.5, 1.0, 1.5])
    assert losses.later.tolist() == [False, False, True, True, True]
    assert (after.step, after.windows) == (3, 2)


def test_what_begins_inside_a_window_is_by_another_theta_if_asked():
    inner, worker = start(horizon=3)
    _, losses = inner.window(THETA, worker, {}, KEY, jnp.float32(-1.0))
    np.testing.assert_allclose(losses.value, [0.5, 1.0, 1.5, -1.0, -2.0])


def test_a_run_stops_at_its_horizon_and_its_objectives_have_the_mean_of_its_losses():
    inner, worker = start()
    after, losses = inner.run(THETA, worker, {}, KEY)
    np.testing.assert_allclose(losses.value, 0.5 * np.r_[1:8, 0, 0])
    assert after.step == 7 and losses.taken.sum() == 7
    np.testing.assert_allclose(losses.objective.mean(), 0.5 * 4, rtol=1e-6)


def apart(family):
    """Returns a family whose meta-losses are evaluated on their own."""
    task = family.task(())

    def gradient(params, key, batch, state):
        grads = jax.grad(lambda p: task.loss(p, key, batch)[0])(params)
        return jnp.float32(jnp.nan), state, grads

    return family._replace(task=lambda draw: task._replace(gradient=gradient))


@pytest.mark.parametrize("window", [5, (2, 5)])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_losses_that_training_shows_are_those_evaluated_apart(window, reduce):
    rule = toys.heavy_ball()
    theta = rule.init(KEY)
    how = dict(window=window, horizon=(5, 9), reduce=reduce, log_offset=20.0)
    how["valid_weight"] = 0.3 if window == 5 else 0.0
    found = []
    for family in (toys.quadratic(0.5), apart(toys.quadratic(0.5))):
        inner = toys.inner(rule, family, **how)

        def several(theta, inner=inner):
            worker, seen = inner.start(theta, {}, KEY), []
            for key in jax.random.split(KEY, 3):
                worker, losses = inner.window(theta, worker, {}, key)
                seen.append(losses)
            start = worker._replace(step=jnp.int32(1))
            seen += [inner.run(theta, start, {}, KEY)[1]]
            seen += [inner.unroll(theta, start, {}, KEY, 6)[1]]
            return sum(x.objective.sum() for x in seen), (worker, seen)

        found.append(jax.jit(jax.grad(several, has_aux=True))(theta))
    assert any(x.later.any() for x in found[0][1][1])
    close(*found, rtol=1e-4)
