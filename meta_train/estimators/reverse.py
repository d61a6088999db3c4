"""Reverse mode: through one window, or through whole runs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import (
    Contribution,
    Estimator,
    Theta,
    all_finite,
    concluded,
    per_run,
    per_worker,
)
from meta_train.estimators.noise import NOISE, Noise, moved, pair_mean
from meta_train.inner.training import Inner
from meta_train.inner.worker import Losses, Worker


def truncated(*, inner: Inner, num_workers: int) -> Estimator:
    """Returns the gradient of a window's mean objective; what enters it is constant.

    Exact when the window is the horizon, biased towards short-sighted rules when it
    is shorter. Memory grows with the window.

    Args:
      inner: what each worker runs.
      num_workers: inner runs in parallel, n.
    """
    mean = lambda losses: jnp.mean(losses.objective)  # noqa: E731
    return _reverse_mode(mean, inner=inner, num_workers=num_workers)


def multi_step(*, inner: Inner, num_workers: int, decay: float = 0.9) -> Estimator:
    """Returns the truncated gradient of a weighted mean of a window's losses.

    The weight of the window's k-th loss is proportional to decay^k: below 1 it stresses
    the first steps, at 1 none, far above 1 only the last (after arXiv:2111.00206).

    Args:
      inner: what each worker runs.
      num_workers: inner runs in parallel, n.
      decay: of the weights from step to step, > 0.

    Raises:
      ValueError: for a decay that is not positive.
    """
    if not decay > 0:
        raise ValueError(f"decay must be positive, got {decay=}.")

    def mixed(losses: Losses) -> jax.Array:
        powers = jnp.arange(losses.objective.size) * jnp.log(decay)
        shares = jax.nn.softmax(jnp.where(losses.taken, powers, -jnp.inf))
        return jnp.sum(shares * losses.objective)

    return _reverse_mode(mixed, inner=inner, num_workers=num_workers)


def full(*, inner: Inner, num_workers: int, clip: float | None = None) -> Estimator:
    """Returns the gradient of whole runs, exact but for `clip`.

    It is rematerialised, so that memory grows as the root of the horizon, at the cost
    of a second run forward.

    Args:
      inner: what each worker runs; its `window` and `stagger` do not matter.
      num_workers: inner runs in parallel, n.
      clip: greatest norm of one worker's gradient, lest a run where it explodes
        (arXiv:1810.10180) be all of the mean; None: any.

    Raises:
      ValueError: for a bound that is not positive.
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive or None, got {clip=}.")

    def measure(theta: Theta, worker: Worker, data: Any, key: jax.Array):
        def value(theta: Theta) -> tuple[jax.Array, tuple]:
            after, losses = inner.run(theta, worker, data, key)
            return jnp.mean(losses.objective), (after, losses)

        (scalar, aux), grad = jax.value_and_grad(value, has_aux=True)(theta)
        after, losses = aux
        valid = all_finite((losses.value, grad, after.params))
        if clip is not None:
            norm = optax.tree.norm(grad)
            grad = optax.tree.scale(clip / jnp.maximum(clip, norm), grad)
        return grad, losses, scalar, valid

    return per_run(measure, inner=inner, num_workers=num_workers, runs=1)


def smoothed(*, inner: Inner, num_workers: int, noise: Noise = NOISE) -> Estimator:
    """Returns the truncated gradient, the mean of those at theta + eps and - eps.

    It is that of the objective that `truncated_es` smooths, with which it can be
    combined therefore. Runs move on along theta itself.

    Args:
      inner: what each worker runs.
      num_workers: pairs in parallel, n.
      noise: perturbs theta.

    Raises:
      ValueError: for noise that cuts differences, of which there are none.
    """
    if noise.sign or noise.clip is not None:
        raise ValueError(
            "reverse mode has no differences to cut; set sign = False and clip = None."
        )

    def contribution(
        theta: Theta, worker: Worker, data: Any, key: jax.Array
    ) -> Contribution:
        noise_key, window_key, restart_key = jax.random.split(key, 3)
        thetas = moved(theta, noise.draw(noise_key, theta))

        def value(theta: Theta, salt: Any) -> tuple[jax.Array, tuple]:
            pair, losses = inner.window(theta, worker, data, window_key, salt=salt)
            return jnp.mean(losses.objective), (pair, losses)

        gradient = jax.vmap(jax.value_and_grad(value, has_aux=True))
        (scalars, (pair, losses)), grads = gradient(thetas, noise.salts())
        after, _ = inner.window(theta, worker, data, window_key)
        grad = jax.tree.map(lambda g: jnp.mean(g, axis=0), grads)
        valid = all_finite((losses.value, grad, pair.params, after.params))
        scalar, losses = scalars.mean(), pair_mean(losses)
        found = dict(grad=grad, losses=losses, objective=scalar, valid=valid)
        return concluded(inner, theta, after, data, restart_key, **found)

    steps = 3 * inner.num_steps
    return per_worker(
        inner.start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )


def _reverse_mode(
    objective: Callable[[Losses], jax.Array], *, inner: Inner, num_workers: int
) -> Estimator:
    """Returns the gradient of any objective of a window's losses [W]."""

    def contribution(
        theta: Theta, worker: Worker, data: Any, key: jax.Array
    ) -> Contribution:
        window_key, _, restart_key = jax.random.split(key, 3)

        def value(theta: Theta) -> tuple[jax.Array, tuple]:
            after, losses = inner.window(theta, worker, data, window_key)
            return objective(losses), (after, losses)

        (scalar, aux), grad = jax.value_and_grad(value, has_aux=True)(theta)
        after, losses = aux
        valid = all_finite((scalar, losses.value, grad, after.params))
        found = dict(grad=grad, losses=losses, objective=scalar, valid=valid)
        return concluded(inner, theta, after, data, restart_key, **found)

    steps = inner.num_steps
    return per_worker(
        inner.start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )
