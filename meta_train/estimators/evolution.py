"""Evolution strategies: pairs of runs at perturbed thetas, and no backward pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import (
    Contribution,
    Estimator,
    Theta,
    all_finite,
    concluded,
    pairwise,
    per_run,
    per_worker,
)
from meta_train.estimators.noise import (
    NOISE,
    Kick,
    Noise,
    contrasts,
    means,
    moved,
    pair_mean,
    stacked,
)
from meta_train.inner.training import Inner
from meta_train.inner.worker import Worker, where


class PESState(NamedTuple):
    """A pair per worker; every leaf has the workers as leading axis.

    Attributes:
      pair: leaves [n, 2, ...], the run at theta + eps and the run at theta - eps.
      score: leaves [n, ...], the sum of the scores that the run has seen.
    """

    pair: Worker
    score: Theta


class NRESState(NamedTuple):
    """A pair per worker, with the one kick of its run.

    Attributes:
      pair: leaves [n, 2, ...].
      kick: leaves [n, ...].
    """

    pair: Worker
    kick: Kick


def es(*, inner: Inner, num_workers: int, noise: Noise = NOISE) -> Estimator:
    """Returns evolution strategies on whole runs (arXiv:1703.03864).

    Unbiased for the smoothed objective, at the cost of two whole runs a worker.

    Args:
      inner: what each worker runs; its `window` and `stagger` do not matter.
      num_workers: pairs in parallel, n.
      noise: perturbs theta.
    """

    def measure(theta: Theta, worker: Worker, data: Any, key: jax.Array):
        noise_key, run_key = jax.random.split(key)
        kick = noise.draw(noise_key, theta)
        run = pairwise(inner.run, in_axes=(0, None, None, None, 0))
        after, losses = run(moved(theta, kick), worker, data, run_key, noise.salts())
        mean = means(losses)
        finite = all_finite((losses.value, losses.unlikeness, after.params))
        difference = contrasts(inner, noise, mean, after, finite)
        grad = jax.tree.map(lambda s: s * difference, kick.score)
        valid = finite & all_finite(grad)
        return grad, pair_mean(losses), mean.objective.mean(), valid

    return per_run(measure, inner=inner, num_workers=num_workers, runs=2)


def truncated_es(*, inner: Inner, num_workers: int, noise: Noise = NOISE) -> Estimator:
    """Returns evolution strategies on one window, from a state that is constant.

    Biased as the truncated gradient is. The state moves on along theta itself, in a
    third run.

    Args:
      inner: what each worker runs.
      num_workers: pairs in parallel, n.
      noise: perturbs theta.
    """

    def contribution(
        theta: Theta, worker: Worker, data: Any, key: jax.Array
    ) -> Contribution:
        noise_key, window_key, restart_key = jax.random.split(key, 3)
        kick = noise.draw(noise_key, theta)
        run = pairwise(inner.window, in_axes=(0, None, None, None, 0, 0))
        thetas = moved(theta, kick)
        pair, losses = run(thetas, worker, data, window_key, thetas, noise.salts())
        after, _ = inner.window(theta, worker, data, window_key)
        mean = means(losses)
        moved_on = (pair.params, after.params)
        finite = all_finite((losses.value, losses.unlikeness, moved_on))
        difference = contrasts(inner, noise, mean, pair, finite)
        grad = jax.tree.map(lambda s: s * difference, kick.score)
        valid = finite & all_finite(grad)
        scalar, losses = mean.objective.mean(), pair_mean(losses)
        found = dict(grad=grad, losses=losses, objective=scalar, valid=valid)
        return concluded(inner, theta, after, data, restart_key, **found)

    steps = 3 * inner.num_steps
    return per_worker(
        inner.start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )


def pes(*, inner: Inner, num_workers: int, noise: Noise = NOISE) -> Estimator:
    """Returns persistent evolution strategies (arXiv:2112.13835).

    Unbiased for the smoothed objective: each loss is weighted by the sum of the scores
    that its own run has seen, also when the run restarts inside the window. If either
    of a pair diverges, the pair's window is dropped and both restart.

    Args:
      inner: what each worker runs.
      num_workers: pairs in parallel, n.
      noise: perturbs theta, anew in each window.
    """

    def start(theta: Theta, data: Any, key: jax.Array) -> PESState:
        worker = inner.start(theta, data, key)
        return PESState(stacked(worker, worker), jax.tree.map(jnp.zeros_like, theta))

    def contribution(
        theta: Theta, state: PESState, data: Any, key: jax.Array
    ) -> Contribution:
        noise_key, window_key, restart_key = jax.random.split(key, 3)
        kick = noise.draw(noise_key, theta)
        seen = jax.tree.map(jnp.add, state.score, kick.score)
        thetas = moved(theta, kick)
        pair, losses = _window(
            inner, noise, thetas, state.pair, data, window_key, thetas
        )
        finite = all_finite((losses.value, losses.unlikeness, pair.params))
        difference = contrasts(inner, noise, losses, pair, finite)
        grad = _weighed(difference, losses.later[0], seen, kick.score)
        valid = finite & all_finite(grad)
        later, ended = losses.later[0].any(), pair.step[0] == 0
        # Nothing of the kick is left in a run that starts after the last loss.
        nothing = jax.tree.map(jnp.zeros_like, theta)
        seen = where(valid & ~ended, where(later, kick.score, seen), nothing)
        pair = _restart(inner, thetas, pair, data, restart_key, ~valid)
        return Contribution(
            grad,
            pair_mean(losses),
            losses.objective.mean(),
            valid,
            valid & (later | ended),
            PESState(pair, seen),
        )

    steps = 2 * inner.num_steps
    return per_worker(
        start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )


def nres(*, inner: Inner, num_workers: int, noise: Noise = NOISE) -> Estimator:
    """Returns evolution strategies with reused noise (arXiv:2304.12180).

    Unbiased for the smoothed objective: a run keeps one kick from its start to its end,
    and a run that starts inside a window has one of its own from its first step. Mostly
    of less variance than `pes`.

    Args:
      inner: what each worker runs.
      num_workers: pairs in parallel, n.
      noise: perturbs theta, anew in each run.
    """

    def start(theta: Theta, data: Any, key: jax.Array) -> NRESState:
        start_key, noise_key = jax.random.split(key)
        worker = inner.start(theta, data, start_key)
        return NRESState(stacked(worker, worker), noise.draw(noise_key, theta))

    def contribution(
        theta: Theta, state: NRESState, data: Any, key: jax.Array
    ) -> Contribution:
        noise_key, window_key, restart_key = jax.random.split(key, 3)
        new = noise.draw(noise_key, theta)
        thetas, later_thetas = moved(theta, state.kick), moved(theta, new)
        pair, losses = _window(
            inner, noise, thetas, state.pair, data, window_key, later_thetas
        )
        finite = all_finite((losses.value, losses.unlikeness, pair.params))
        difference = contrasts(inner, noise, losses, pair, finite)
        grad = _weighed(difference, losses.later[0], state.kick.score, new.score)
        valid = finite & all_finite(grad)
        begun = losses.later[0].any() | (pair.step[0] == 0)
        pair = _restart(inner, later_thetas, pair, data, restart_key, ~valid)
        return Contribution(
            grad,
            pair_mean(losses),
            losses.objective.mean(),
            valid,
            valid & begun,
            NRESState(pair, where(begun | ~valid, new, state.kick)),
        )

    steps = 2 * inner.num_steps
    return per_worker(
        start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )


def _window(inner, noise, thetas, pair, data, key, later):
    """Returns a pair after a window, and its losses [2, W]."""
    run = pairwise(inner.window, in_axes=(0, 0, None, None, 0, 0))
    return run(thetas, pair, data, key, later, noise.salts())


def _restart(inner, thetas, pair, data, key, force):
    """Returns a pair that starts again if it is due or forced to."""
    run = jax.vmap(inner.restart, in_axes=(0, 0, None, None, None))
    return run(thetas, pair, data, key, force)[0]


def _weighed(difference: jax.Array, later: jax.Array, old: Theta, new: Theta) -> Theta:
    """Returns (1/W) sum_t w_t D_t of differences [W]: w_t is `old`, later `new`."""
    difference = difference / difference.size
    before = jnp.sum(jnp.where(later, 0, difference))
    after = jnp.sum(jnp.where(later, difference, 0))
    return jax.tree.map(lambda x, e: x * before + e * after, old, new)
