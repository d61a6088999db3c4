"""One estimator for each family of a mixture, one of which speaks at a meta-step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from meta_train.estimators.base import Estimate, Estimator, EstimatorState, Theta

DECAY = 0.9  # of the mean square of a family's gradients
OUTLIER = 10.0  # times it


class MixtureState(NamedTuple):
    """What a mixture of f families keeps.

    Attributes:
      own: f states, of each family's estimator; in a turn, the state of its family.
      square: [f], decaying sums of squared norms of each family's gradients.
      weight: [f], the sums of the weights in them.
    """

    own: tuple[EstimatorState, ...] | EstimatorState
    square: jax.Array
    weight: jax.Array


def mix(
    estimators: Mapping[str, Estimator], weights: Mapping[str, float], *, balance: bool
) -> Estimator:
    """Returns the estimator that draws, by weight, whose estimate a meta-step takes.

    All workers follow one draw, so that a meta-step costs what its family costs; each
    family is a program of its own. The data are a tuple, one entry for each family in
    order; only the drawn one's state moves on. Metrics gain `family`, the drawn one's
    place in the order, and `family_grad_norm`, before any division.

    Args:
      estimators: by the name of their family, all of one theta.
      weights: by the same names, > 0; they need not add up to 1.
      balance: whether gradients are divided by the root of their family's mean square
        so far. Without it, weights say little where norms differ by orders of
        magnitude; with it, families of noisy gradients count for little.

    Raises:
      ValueError: if names differ, or a weight is not positive.
    """
    names = list(estimators)
    if set(names) != set(weights) or not names or min(weights.values()) <= 0:
        raise ValueError(
            f"need a positive weight for each of {', '.join(names)}, got "
            f"{dict(weights)}."
        )
    if len(names) == 1:
        return _alone(estimators[names[0]])
    shares = jnp.array([weights[name] for name in names])
    shares = shares / shares.sum()

    def init(theta: Theta, data: tuple, key: jax.Array) -> MixtureState:
        keys = jax.random.split(key, len(names))
        each = zip(estimators.values(), data, keys, strict=True)
        states = tuple(x.init(theta, arrays, k) for x, arrays, k in each)
        return MixtureState(states, jnp.zeros(len(names)), jnp.zeros(len(names)))

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.choice(jax.random.split(key)[0], len(names), p=shares)

    def estimate(
        theta: Theta, state: MixtureState, data: tuple, key: jax.Array, drawn: int
    ) -> tuple[Estimate, MixtureState]:
        own = data[drawn], jnp.int32(drawn)
        found, after = turns[drawn](theta, alone(state, drawn), own, key)
        return found, rejoined(state, after, drawn)

    turns = tuple(_turn(x, balance=balance) for x in estimators.values())
    everywhere = PartitionSpec()
    workers = tuple(estimator.sharding for estimator in estimators.values())
    steps = max(estimator.steps for estimator in estimators.values())
    sharding = MixtureState(workers, everywhere, everywhere)
    return Estimator(init, estimate, steps, sharding, draw, turns)


def alone(state: MixtureState, drawn: int) -> MixtureState:
    """Returns the part of a mixture's state that the turn of one family takes."""
    return state._replace(own=state.own[drawn])


def rejoined(state: MixtureState, after: MixtureState, drawn: int) -> MixtureState:
    """Returns a mixture's state with the state after the turn of one family."""
    return after._replace(own=(*state.own[:drawn], after.own, *state.own[drawn + 1 :]))


def _turn(estimator: Estimator, *, balance: bool) -> Callable[..., Any]:
    """Returns the estimate of a mixture by one family."""

    def estimate(
        theta: Theta, state: MixtureState, data: tuple[Any, jax.Array], key: jax.Array
    ) -> tuple[Estimate, MixtureState]:
        arrays, drawn = data
        key = jax.random.split(key)[1]
        found, after = estimator.estimate(theta, state.own, arrays, key)
        state = _counted(state._replace(own=after), drawn, found)
        scale = jnp.sqrt(state.square[drawn] / state.weight[drawn]) if balance else 1.0
        grad = jax.tree.map(lambda g: g / jnp.where(scale > 0, scale, 1), found.grad)
        norm = optax.tree.norm(found.grad)
        metrics = found.metrics | {"family": drawn, "family_grad_norm": norm}
        return found._replace(grad=grad, metrics=metrics), state

    return estimate


def _counted(state: MixtureState, drawn: jax.Array, found: Estimate) -> MixtureState:
    """Returns the state with a gradient counted, if any worker was valid.

    It counts as no more than `OUTLIER` times the mean so far, lest one explosion
    silence its family for long.
    """
    square = optax.tree.norm(found.grad, squared=True)
    mean = state.square[drawn] / state.weight[drawn]  # NaN at first
    square = jnp.where(square > OUTLIER * mean, OUTLIER * mean, square)
    counts = (found.metrics["valid"] > 0) & jnp.isfinite(square)

    def moved(sums: jax.Array, new: Any) -> jax.Array:
        value = DECAY * sums[drawn] + (1 - DECAY) * new
        return sums.at[drawn].set(jnp.where(counts, value, sums[drawn]))

    return MixtureState(
        state.own, moved(state.square, square), moved(state.weight, 1.0)
    )


def _alone(estimator: Estimator) -> Estimator:
    """Returns the mixture of one, which draws nothing."""

    def init(theta: Theta, data: tuple, key: jax.Array) -> EstimatorState:
        return estimator.init(theta, data[0], key)

    def estimate(theta, state, data, key):
        return estimator.estimate(theta, state, data[0], key)

    return Estimator(init, estimate, estimator.steps, estimator.sharding)
