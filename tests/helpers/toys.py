"""Families and rules small enough to differentiate by hand, shared by tests."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common import settings
from lopt.types import LearnedOptimizer
from meta_train.inner import options
from meta_train.inner.imitation import Imitation
from tasks.base import Task, TaskFamily, fixed

WHERE = "config.inner.imitation"


def family_of(loss, start, noise=0.0) -> TaskFamily:
    """Returns one task on params {"x": start}, whose batches are noise like x."""
    start = jnp.asarray(start)

    def batch(data, key, split):
        return noise * jax.random.normal(key, start.shape, start.dtype)

    task = Task(
        init=lambda key: {"x": start},
        loss=lambda params, key, batch: (loss(params["x"], batch), {}),
        batch=batch,
        normalise=lambda value: value,
    )
    shapes = {"x": jax.ShapeDtypeStruct(start.shape, start.dtype)}
    return fixed(task, name="toy", data={}, base_shapes=shapes)


def quadratic(noise=0.0) -> TaskFamily:
    """Returns 1/2 x^T H x + noise . x with H = diag(1, 4)."""
    curvature = np.array([1.0, 4.0])
    return family_of(
        lambda x, batch: 0.5 * jnp.sum(curvature * x**2) + jnp.sum(batch * x),
        [1.0, -2.0],
        noise,
    )


def classifier(noise=0.3) -> TaskFamily:
    """Returns logistic regression on one noisy batch of three points."""
    inputs, labels = jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0]]), jnp.arange(3)

    def loss(params, key, batch):
        logits = (inputs + batch) @ params["w"]
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, labels
        ).mean(), dict(logits=logits)

    task = Task(
        init=lambda key: {"w": 0.1 * jax.random.normal(key, (2, 3))},
        loss=loss,
        batch=lambda data, key, split: noise * jax.random.normal(key, (3, 2)),
        normalise=lambda value: value,
    )
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return fixed(task, name="toy", data={}, base_shapes=shapes)


def heavy_ball() -> LearnedOptimizer:
    """Returns SGD with momentum whose theta is (log learning rate, decay)."""

    def init(key):
        return {"log_lr": jnp.log(0.1), "decay": jnp.asarray(0.5)}

    def bind(theta, *, num_steps=None):
        def update(grads, state, params=None, **extra):
            state = jax.tree.map(lambda m, g: theta["decay"] * m + g, state, grads)
            return jax.tree.map(lambda m: -jnp.exp(theta["log_lr"]) * m, state), state

        zeros = lambda params: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
        return optax.GradientTransformationExtraArgs(zeros, update)

    return LearnedOptimizer(init, bind)


def drift() -> LearnedOptimizer:
    """Returns the rule that adds theta to every parameter, whatever the gradient."""

    def bind(theta, *, num_steps=None):
        def update(grads, state, params=None, **extra):
            return jax.tree.map(lambda g: jnp.full_like(g, 1) * theta, grads), state

        return optax.GradientTransformationExtraArgs(lambda p: (), update)

    return LearnedOptimizer(lambda key: jnp.zeros([]), bind)


def inner(
    rule,
    family,
    *,
    window,
    horizon,
    valid_weight=0.0,
    log_offset=None,
    stagger=False,
    growth=0,
    reduce="mean",
    fresh=1.0,
    imitation=None,
):
    return options.inner(
        rule=rule,
        family=family,
        window=window,
        horizon=horizon if isinstance(horizon, tuple) else (horizon, horizon),
        growth=growth,
        reduce=reduce,
        valid_weight=valid_weight,
        log_offset=log_offset,
        schedule=None,
        stagger=stagger,
        fresh=fresh,
        imitation=imitation and settings.call(Imitation, WHERE, imitation),
    )


def noise(sigma, **changes):
    """Returns the settings of a noise, as in a config."""
    plain = dict(
        per_leaf=False, antithetic=True, shared_batches=True, sign=False, clip=None
    )
    return plain | {"sigma": sigma} | changes


def target(**changes):
    """Returns the settings of a bootstrapped target, as in a config."""
    plain = dict(rule_steps=0, baseline_steps=1, baseline="sgd", learning_rate=0.2)
    return plain | changes
