"""Bootstrapped meta-gradients (arXiv:2109.04504): match a target further on."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator, Theta
from meta_train.estimators.truncated import reverse_mode
from meta_train.unroll import Inner, Worker

TARGETS = {"sgd": optax.sgd, "adam": optax.adam}


def bootstrapped(
    *,
    inner: Inner,
    num_workers: int,
    matching: str,
    extra_steps: int,
    target: str,
    target_learning_rate: float,
) -> Estimator:
    """Returns the gradient of the distance from x_W to a bootstrapped target.

    The target continues from x_W by `extra_steps` - 1 steps of the rule and one
    ordinary gradient step, without which a rule that does nothing would match its
    target. The target is a constant; memory grows with the window only. Runs
    continue from x_W, and end with the window in which they reach their horizon.

    Args:
      inner: what each worker runs.
      num_workers: inner runs in parallel, n.
      matching: "parameters" (squared distance) or "kl" (target || candidate, between
        predictions on one batch; the task's aux must hold logits).
      extra_steps: L, steps from x_W to the target, at least 1.
      target: optimizer of the last step, "sgd" or "adam".
      target_learning_rate: step size of the last step.

    Raises:
      ValueError: for an unknown matching or target, or no extra steps.
    """
    if matching not in MATCHINGS:
        raise ValueError(f"unknown {matching=}; known: {', '.join(MATCHINGS)}.")
    if target not in TARGETS:
        raise ValueError(f"unknown {target=}; known: {', '.join(TARGETS)}.")
    if extra_steps < 1:
        raise ValueError(f"extra_steps must be at least 1, got {extra_steps=}.")
    last = TARGETS[target](target_learning_rate)
    distance = functools.partial(MATCHINGS[matching], inner)

    def destination(theta: Theta, worker: Worker, data: Any, key: jax.Array) -> Worker:
        """Returns the worker L - 1 steps of the rule and one gradient step on."""
        unroll_key, last_key = jax.random.split(key)
        if extra_steps > 1:
            worker, _ = inner.unroll(theta, worker, data, unroll_key, extra_steps - 1)

        def loss(params: Any) -> jax.Array:
            return inner.loss(worker._replace(params=params), data, last_key)[0]

        grads = jax.grad(loss)(worker.params)
        updates, _ = last.update(grads, last.init(worker.params), worker.params)
        return worker._replace(params=optax.apply_updates(worker.params, updates))

    def mismatch(theta, after, losses, data, key):
        target_key, match_key = jax.random.split(key)
        theta, start = jax.lax.stop_gradient((theta, after))
        goal = destination(theta, start, data, target_key)
        return distance(jax.lax.stop_gradient(goal), after, data, match_key)

    def window(theta, worker, data, key):
        # A run that restarted inside the window would end where theta had no say.
        return inner.unroll(theta, worker, data, key, inner.num_steps)

    return reverse_mode(mismatch, window=window, inner=inner, num_workers=num_workers)


def _squared_distance(
    inner: Inner, goal: Worker, candidate: Worker, data: Any, key: jax.Array
) -> jax.Array:
    del inner, data, key
    square = jax.tree.map(
        lambda a, b: jnp.sum(jnp.square(a - b)), goal.params, candidate.params
    )
    return sum(jax.tree.leaves(square))


def _kl(
    inner: Inner, goal: Worker, candidate: Worker, data: Any, key: jax.Array
) -> jax.Array:
    """Returns KL(goal || candidate) of predictions, the mean over a batch."""
    logits = [inner.loss(w, data, key)[1]["logits"] for w in (goal, candidate)]
    log_p, log_q = (jax.nn.log_softmax(x) for x in logits)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


MATCHINGS = {"parameters": _squared_distance, "kl": _kl}
