"""Persistent evolution strategies (arXiv:2112.13835), unbiased across windows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import (
    Contribution,
    Estimator,
    Theta,
    all_finite,
    per_worker,
)
from meta_train.unroll import Inner, Worker


class PESState(NamedTuple):
    """An antithetic pair per worker; every leaf has the workers as leading axis.

    Attributes:
      pair: leaves [n, 2, ...], the run at theta + eps and the run at theta - eps.
      xi: leaves [n, ...], the sum of the perturbations that the run has seen.
    """

    pair: Worker
    xi: Theta


def pes(*, inner: Inner, num_workers: int, sigma: float) -> Estimator:
    """Returns the PES estimator of the smoothed objective's gradient.

    Each loss is weighted by the sum of the perturbations that its own run has seen,
    also when the run restarts inside the window. If either of a pair diverges, the
    pair's window is dropped and both restart.

    Args:
      inner: what each worker runs.
      num_workers: antithetic pairs in parallel, n.
      sigma: standard deviation of the perturbations of theta.
    """

    def start(theta: Theta, data: Any, key: jax.Array) -> PESState:
        worker = inner.start(theta, data, key)
        pair = jax.tree.map(lambda x: jnp.stack([x, x]), worker)
        return PESState(pair, jax.tree.map(jnp.zeros_like, theta))

    def one(theta: Theta, state: PESState, data: Any, key: jax.Array) -> Contribution:
        eps_key, window_key, restart_key = jax.random.split(key, 3)
        eps = perturbation(eps_key, theta, sigma)
        xi = jax.tree.map(jnp.add, state.xi, eps)
        thetas = jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, eps)
        after, losses = jax.vmap(inner.window, in_axes=(0, 0, None, None))(
            thetas, state.pair, data, window_key
        )
        before, now = state.pair.step[0], after.step[0]
        grad = _weighted_difference(
            losses,
            remaining=state.pair.horizon[0] - before,
            xi=xi,
            eps=eps,
            sigma=sigma,
        )
        valid = all_finite((losses, grad, after.params))
        restarted = now < before + losses.shape[1]
        # Nothing of eps is left in a run that starts after the window's last loss.
        seen = jax.tree.map(lambda x, e: jnp.where(restarted, e, x), xi, eps)
        seen = jax.tree.map(lambda x: jnp.where(valid & (now > 0), x, 0), seen)
        after, _ = jax.vmap(inner.restart, in_axes=(0, 0, None, None, None))(
            thetas, after, data, restart_key, ~valid
        )
        state = PESState(after, seen)
        loss = jnp.mean(losses)
        return Contribution(grad, loss, loss, valid, restarted, state)

    return per_worker(start, one, num_workers=num_workers)


def perturbation(key: jax.Array, theta: Theta, sigma: float) -> Theta:
    """Returns independent normal noise of standard deviation `sigma`, like theta."""
    leaves, tree = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
        [
            sigma * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
    )


def _weighted_difference(
    losses: jax.Array, *, remaining: jax.Array, xi: Theta, eps: Theta, sigma: float
) -> Theta:
    """Returns (1/W) sum_t w_t (L+_t - L-_t) / (2 sigma^2).

    The weight w_t is xi up to the run's last loss and eps after it.
    """
    plus, minus = losses
    difference = (plus - minus) / (2 * sigma**2 * plus.size)
    old_run = jnp.arange(plus.size) < remaining
    old = jnp.sum(jnp.where(old_run, difference, 0))
    new = jnp.sum(jnp.where(old_run, 0, difference))
    return jax.tree.map(lambda x, e: x * old + e * new, xi, eps)
