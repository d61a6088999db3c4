"""Gradients of windows are biased, as far as closed forms say, and one-sidedly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import KEY, agree, close, sampled

from meta_train import estimators
from meta_train.estimators.base import worker_keys

WINDOWED = {
    "truncated": {},
    "multi_step": {"decay": 0.8},
    "smoothed": {"noise": dict(sigma=1e-3)},
    "truncated_es": {"noise": dict(sigma=1e-3)},
    "combined": {"noise": dict(sigma=1e-3), "decay": 0.9, "num_workers": 2},
}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def sgd(rate):
    """Returns theta of toys.heavy_ball without momentum."""
    return {"log_lr": np.log(rate), "decay": np.asarray(0.0)}


def bowl(curvature, start, noise):
    """Returns 1/2 x^T H x + noise . x with a diagonal H."""

    def loss(x, batch):
        return jnp.sum(0.5 * jnp.asarray(curvature) * x**2 + batch * x)

    return toys.family_of(loss, start, noise)


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_sees_no_steps_before_its_own(name):
    # L_t = theta t. A step of age a, the o-th of its window, counts min(a, o), not a;
    # in 35 steps every a of 1, ..., 7 meets every o of 1, ..., 5 once.
    family = toys.family_of(lambda x, batch: jnp.sum(x), [0.0])
    inner = toys.inner(toys.drift(), family, window=5, horizon=7)
    weights = 0.8 ** np.arange(5) if name == "multi_step" else np.ones(5)
    counts = [[min(a, o) for o in range(1, 6)] for a in range(1, 8)]
    seen = np.average(counts, axis=1, weights=weights).mean()
    assert round(seen, 4) == (2.1429 if name == "multi_step" else 2.4286)  # 4 are true
    found = sampled(name, inner, 0.0, **WINDOWED[name])
    if name in ("truncated_es", "combined"):
        agree(found, np.full(1, seen))
    else:
        close(found, np.full(20_000, seen))


@pytest.mark.parametrize("window", [1, 2, 4, 8])
def test_truncation_leaves_of_each_step_of_sgd_the_share_its_window_saw(window):
    # x_t = q^t x_0 with q = 1 - lr h, so dL_t/dlog(lr) = -lr h^2 x_0^2 t q^(2t - 1), of
    # which t steps have an equal share.
    rate, h = 0.1, 3.0
    inner = toys.inner(
        toys.heavy_ball(), bowl([h], [2.0], 0.0), window=window, horizon=8
    )
    t, q = np.arange(1, 9), 1 - rate * h
    full = -rate * h**2 * 4 * t * q ** (2 * t - 1)
    share = ((t - 1) % window + 1) / t
    found = sampled("truncated", inner, sgd(rate), count=1, num_windows=8 // window)
    close(found["log_lr"], (share * full).mean(keepdims=True))


NOISY = dict(curvature=[0.2, 4.0], start=[5.0, 0.0])


def noisy_sgd(log_lr, *, window, horizon=10):
    """Returns the mean loss of SGD under unit noise, by recursion on E[x^2].

    Its derivative takes what enters a window for a constant.
    """
    h, square = jnp.array(NOISY["curvature"]), jnp.square(jnp.array(NOISY["start"]))
    rate, losses = jnp.exp(log_lr), []
    for t in range(horizon):
        square = square if t % window else jax.lax.stop_gradient(square)
        square = (1 - rate * h) ** 2 * square + rate**2
        losses.append(jnp.sum(h * square) / 2)
    return jnp.stack(losses).mean()


@pytest.mark.parametrize("name", [*WINDOWED, "full"])
def test_truncation_prefers_too_small_learning_rates(name):
    # Short-horizon bias (arXiv:1803.02021): noise along the steep axis costs at once,
    # and progress along the flat one pays later.
    rate, noisy = 0.3, bowl(**NOISY, noise=1.0)
    short, whole = (
        jax.grad(noisy_sgd)(np.log(rate), window=window) for window in (2, 10)
    )
    assert short > 0.2 and whole < -0.2  # descent lowers the rate, or raises it
    inner = toys.inner(toys.heavy_ball(), noisy, window=2, horizon=10)
    num_windows = 1 if name == "full" else 5
    args = WINDOWED.get(name, {"clip": None})
    found = sampled(name, inner, sgd(rate), num_windows=num_windows, **args)
    expected = whole if name == "full" else short
    agree(found["log_lr"], np.full(1, expected), within=0.2)


@pytest.mark.parametrize("name", ["truncated_es", "smoothed"])
def test_runs_of_a_pair_on_one_window_move_on_along_theta_itself(name):
    theta = jax.tree.map(jnp.asarray, sgd(0.1))
    inner = toys.inner(toys.heavy_ball(), toys.quadratic(0.1), window=2, horizon=9)
    one = estimators.build(name, inner=inner, num_workers=1, noise=toys.noise(0.5))
    state = one.init(theta, {}, KEY)
    _, after = jax.jit(one.estimate)(theta, state, {}, KEY)
    window_key = jax.random.split(worker_keys(KEY, 1)[0], 3)[1]
    worker = jax.tree.map(lambda x: x[0], state)
    expected, _ = jax.jit(inner.window)(theta, worker, {}, window_key)
    close(after.params["x"][0], expected.params["x"])
