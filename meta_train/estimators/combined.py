"""Two estimators of one objective, weighted by what each knows of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from meta_train.estimators.base import (
    Estimate,
    Estimator,
    EstimatorState,
    Theta,
    refuse_imitation,
    total,
)
from meta_train.estimators.evolution import truncated_es
from meta_train.estimators.noise import NOISE, Noise
from meta_train.estimators.reverse import smoothed
from meta_train.inner.training import Inner


class CombinedState(NamedTuple):
    """What a combination keeps.

    Attributes:
      own: the states of the two.
      variance: two trees like theta, decaying means of the variances of their means.
      seen: [2], whether there is one yet.
    """

    own: tuple[EstimatorState, EstimatorState]
    variance: tuple[Theta, Theta]
    seen: jax.Array


def combined(
    *, inner: Inner, num_workers: int, noise: Noise = NOISE, decay: float = 0.9
) -> Estimator:
    """Returns `truncated_es` and `smoothed` combined (arXiv:1810.10180).

    Evolution strategies win where losses are rough, reverse mode where they are smooth.

    Args:
      inner: what each worker runs; each of the two has workers of its own.
      num_workers: pairs of each in parallel, n; at least 2, to have a variance.
      noise: perturbs theta, for both alike.
      decay: of the means of variances, in [0, 1).

    Raises:
      ValueError: for a decay out of its range, a single worker, imitation, which the
        two weigh differently, or noise that cuts differences, which one has not.
    """
    refuse_imitation(inner, "under imitation the two would have unlike objectives")
    if num_workers < 2:
        raise ValueError(f"num_workers must be at least 2, got {num_workers=}.")
    args = {"inner": inner, "num_workers": num_workers, "noise": noise}
    return combine(truncated_es(**args), smoothed(**args), decay=decay)


def combine(first: Estimator, second: Estimator, *, decay: float) -> Estimator:
    """Returns the mean of two estimates, each entry weighted by its inverse variance.

    Both must estimate the same objective. Variances are means over past meta-steps:
    those of the same sample would bias the gradient. Until both have one, the two
    weigh the same. One without a valid worker does not speak.

    Args:
      first: one estimator, whose estimates hold their variance.
      second: another, of the same theta.
      decay: of the means, in [0, 1).

    Raises:
      ValueError: for a decay out of its range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay=}.")
    pair = (first, second)

    def init(theta: Theta, data: Any, key: jax.Array) -> CombinedState:
        keys = jax.random.split(key)
        states = tuple(
            estimator.init(theta, data, k)
            for estimator, k in zip(pair, keys, strict=True)
        )
        zeros = jax.tree.map(jnp.zeros_like, theta)
        return CombinedState(states, (zeros, zeros), jnp.zeros(2, bool))

    def estimate(
        theta: Theta, state: CombinedState, data: Any, key: jax.Array
    ) -> tuple[Estimate, CombinedState]:
        each = zip(pair, state.own, jax.random.split(key), strict=True)
        found, states = zip(
            *(estimator.estimate(theta, part, data, k) for estimator, part, k in each),
            strict=True,
        )
        able = jnp.stack([x.metrics["valid"] > 0 for x in found])
        share = jax.tree.map(
            lambda a, b: _share(a, b, able, state.seen), *state.variance
        )
        after = CombinedState(states, *_remembered(state, found, decay))
        return _mixed(found, share, able), after

    everywhere = PartitionSpec()
    sharding = CombinedState((first.sharding, second.sharding), everywhere, everywhere)
    return Estimator(init, estimate, first.steps + second.steps, sharding)


def _share(a: jax.Array, b: jax.Array, able: jax.Array, seen: jax.Array) -> jax.Array:
    """Returns the weight of the first, whose variance is `a`, in each entry."""
    known = seen.all() & (a + b > 0)
    share = jnp.where(known, b / jnp.where(known, a + b, 1), 0.5)
    return jnp.where(able.all(), share, able[0])


def _remembered(
    state: CombinedState, found: tuple[Estimate, Estimate], decay: float
) -> tuple[tuple[Theta, Theta], jax.Array]:
    """Returns the means of variances, with those just found, and which there are."""
    counts = jnp.stack([x.metrics["valid"] > 1 for x in found])

    def moved(old: jax.Array, new: jax.Array, index: int) -> jax.Array:
        mean = jnp.where(state.seen[index], decay * old + (1 - decay) * new, new)
        return jnp.where(counts[index], mean, old)

    means = tuple(
        jax.tree.map(
            lambda a, b, i=i: moved(a, b, i), state.variance[i], estimate.variance
        )
        for i, estimate in enumerate(found)
    )
    return means, state.seen | counts


def _mixed(found: tuple[Estimate, Estimate], share: Theta, able: jax.Array) -> Estimate:
    """Returns the mean of two estimates by the share of the first."""
    first, second = found
    mean = lambda a, b, w: w * a + (1 - w) * b  # noqa: E731
    square = lambda a, b, w: w**2 * a + (1 - w) ** 2 * b  # noqa: E731
    grad = jax.tree.map(mean, first.grad, second.grad, share)
    variance = jax.tree.map(square, first.variance, second.variance, share)
    metrics = {
        name: first.metrics[name] + second.metrics[name]
        for name in ("restarts", "diverged", "valid")
    }
    weights = able / jnp.maximum(1, able.sum())

    def scalar(a: jax.Array, b: jax.Array) -> jax.Array:
        both = jnp.sum(jnp.where(able, weights * jnp.stack([a, b]), 0))
        return jnp.where(able.any(), both, jnp.nan)

    metrics["objective"] = scalar(*(x.metrics["objective"] for x in found))
    metrics["snr"] = optax.tree.norm(grad, squared=True) / total(variance)
    return Estimate(grad, scalar(first.loss, second.loss), metrics, variance)
