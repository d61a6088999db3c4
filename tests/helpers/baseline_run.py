"""Runs of baselines on a small problem, and hyperparameters that are no defaults."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lopt import mup
from lopt.baselines import BASELINES

# A matrix, a vector and a convolution's kernel; of the first and last two axes grow.
PARAMS = {
    "w": np.array([[1.0, -2.0], [0.5, 3.0]]),
    "b": np.array([0.3, -0.1]),
    "kernel": np.cos(np.arange(24.0)).reshape(2, 2, 2, 3),
}
BASE = {"w": np.zeros((1, 1)), "b": np.zeros(1), "kernel": np.zeros((2, 2, 1, 1))}
INFO = mup.infer(PARAMS, BASE)
PEAK, STEPS, WARMUP = 0.03, 20, 0.25
every = pytest.mark.parametrize("name", BASELINES)


def gradient(params):
    """Returns that of |w b - 1|^2 + sum b^4 + sum c (kernel - sin)^2 / 2, by hand."""
    w, b, kernel = params["w"], params["b"], params["kernel"]
    rest = w @ b - np.ones(2, np.float32)
    target = np.sin(np.arange(24.0, dtype=np.float32)).reshape(2, 2, 2, 3)
    curvature = np.linspace(0.5, 2, 3, dtype=np.float32).reshape(1, 1, 1, 3)
    return {
        "w": 2 * rest[:, None] * b[None],
        "b": 2 * (w.T @ rest) + 4 * b**3,
        "kernel": curvature * (kernel - target),
    }


def rate(count, num_steps=STEPS):
    """Returns cosine annealing after a linear warm-up over a quarter of the run."""
    done = jnp.asarray(count) / num_steps
    ramp = jnp.minimum(1, (jnp.asarray(count) + 1) / (WARMUP * num_steps))
    return PEAK * ramp * (1 + jnp.cos(jnp.pi * done)) / 2


def run(tx, num_steps=STEPS, shown=lambda state, params: params, **extra):
    """Returns what is shown of state and parameters after each step."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradient(params), state, params, **extra)
        params = optax.apply_updates(params, updates)
        return (params, state), shown(state, params)

    params = jax.tree.map(jnp.asarray, PARAMS)  # float64 where that is enabled
    return jax.jit(lambda c: jax.lax.scan(step, c, length=num_steps)[1])(
        (params, tx.init(params))
    )


def built(name, num_steps=STEPS, **changed):
    own = dict(learning_rate=PEAK, schedule="cosine", warmup=WARMUP, info=INFO)
    return BASELINES[name].build(num_steps=num_steps, **own | changed)


def close(found, expected, rtol):
    near = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-6)
    jax.tree.map(near, found, expected)


# Hyperparameters that are not the defaults.
SGD, ADAM = dict(momentum=0.8), dict(b1=0.8, b2=0.99, eps=1e-4)
ADAMW = ADAM | dict(weight_decay=0.1)
OWN = {
    "sgdm": SGD,
    "nesterov": SGD,
    "adam": ADAM,
    "adamw": ADAMW,
    "nadamw": ADAMW,
    "amsgrad": ADAM,
    "adafactor": dict(momentum=0.5, decay=0.7, weight_decay=0.1),
    "lamb": ADAMW,
    "lion": dict(b1=0.8, b2=0.95, weight_decay=0.5),
    "muon": ADAMW | dict(momentum=0.8, adam_share=0.5),
    "schedule_free_adamw": ADAMW,
    "prodigy": ADAMW | dict(initial=1e-4),
    "muadam": ADAM,
    "musgd": SGD,
}


def by_twins(leaves, num_steps):
    """Returns twins after their last step, and the parameters after each.

    Args:
      leaves: {leaf: the twin that steps it}.
      num_steps: how many steps.
    """
    steppers = {k: leaves[k](x) for k, x in PARAMS.items()}
    params, found = PARAMS, []
    for count in range(num_steps):
        grads, now = gradient(params), float(rate(count, num_steps))
        params = {k: steppers[k].step(grads[k], x, now) for k, x in params.items()}
        found.append(params)
    return steppers, jax.tree.map(lambda *x: np.stack(x), *found)
