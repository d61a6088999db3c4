"""The outer update: clipped, then AdamW, then averaged; none without a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from meta_train import learner
from meta_train.build import Outer, outer_optimizer, worker_mesh
from meta_train.estimators import Estimate, Estimator

OUTER = Outer(
    num_steps=10,
    learning_rate=0.1,
    end_learning_rate=0.01,
    warmup_steps=3,
    weight_decay=0.2,
    clip=1.0,
    average=0.5,
    balance=True,
)
GRADS = np.array([[3.0, -4.0], [0.3, 0.1], [30.0, 10.0], [0.0, -0.2], [2.0, 2.0]])


def scripted(valid, grads):
    """Returns the estimator that gives `grads` one by one, with `valid` workers."""
    valid = np.broadcast_to(valid, len(grads))

    def estimate(theta, state, data, key):
        log_lr, decay = jnp.asarray(grads, jnp.float32)[state[0]]
        grad = {"log_lr": log_lr, "decay": decay}
        metrics = {"valid": jnp.asarray(valid)[state[0]]}
        return Estimate(grad, jnp.float32(0), metrics), state + 1

    return Estimator(lambda theta, data, key: jnp.zeros(1, jnp.int32), estimate)


def thetas(valid, grads=GRADS):
    """Returns theta and its average at the start and after each meta-step, [., 2]."""
    learn = learner.build(
        rule=toys.heavy_ball(),
        estimator=scripted(valid, grads),
        outer=outer_optimizer(OUTER),
        average=OUTER.average,
        seed=0,
        mesh=worker_mesh(),
    )
    flat = lambda tree: [float(tree["log_lr"]), float(tree["decay"])]  # noqa: E731
    state = learn.init({})
    found = [(flat(state.theta), flat(state.average))]
    for _ in grads:
        state, _ = learn.step(state, {})
        found.append((flat(state.theta), flat(state.average)))
    return np.array(found).swapaxes(0, 1)


def rate(step):
    """Returns the learning rate: 3 steps of warm-up, then half a cosine to step 10."""
    if step < 3:
        return 0.1 * step / 3
    return 0.01 + 0.09 * (1 + np.cos(np.pi * (step - 3) / 7)) / 2


def by_hand():
    """Returns theta after each meta-step of AdamW on clipped gradients, in NumPy."""
    theta, m, v, found = np.array([np.log(0.1), 0.5]), 0.0, 0.0, []
    for step, grad in enumerate(GRADS):
        grad = grad / max(1.0, np.linalg.norm(grad))
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        unit = (m / (1 - 0.9 ** (step + 1))) / (
            np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8
        )
        theta = theta - rate(step) * (unit + 0.2 * theta)
        found.append(theta)
    return np.array(found)


def test_theta_follows_adamw_on_clipped_gradients():
    theta, _ = thetas(8)
    np.testing.assert_allclose(theta[1:], by_hand(), rtol=2e-5)


def test_the_average_of_theta_warms_up():
    theta, average = thetas(8)
    expected = theta[0]
    for step in range(len(GRADS)):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * theta[step + 1]
        np.testing.assert_allclose(average[step + 1], expected, rtol=1e-5)


def test_theta_stands_still_without_a_valid_worker():
    theta, average = thetas(0)
    assert np.all(theta == theta[:1]) and np.all(average == theta)


def test_a_meta_step_without_a_valid_worker_is_as_if_it_had_not_been():
    theta, _ = thetas([8, 0, 8, 0, 8])
    without, _ = thetas(8, GRADS[::2])
    np.testing.assert_array_equal(theta[[0, 1, 3, 5]], without)


def test_clipping_comes_before_adamw():
    tx, params = outer_optimizer(OUTER), {"w": jnp.ones(2)}
    state = tx.init(params)
    for scale in (1.0, 1e6):  # clipped alike, they leave the same moments
        _, after = tx.update({"w": scale * jnp.array([3.0, -4.0])}, state, params)
        moments = optax.tree.get(after, "mu")["w"]
        np.testing.assert_allclose(moments, [0.06, -0.08], rtol=1e-5)


@pytest.mark.parametrize("average", [-0.1, 1.0])
def test_an_average_that_never_moves_or_overshoots_is_refused(average):
    with pytest.raises(ValueError, match="0 <= average < 1"):
        Outer(**{**vars(OUTER), "average": average})


def test_theta_of_the_first_state_is_the_rules():
    theta, _ = thetas(8)
    expected = toys.heavy_ball().init(jax.random.key(0))
    np.testing.assert_allclose(theta[0], [expected["log_lr"], expected["decay"]])
