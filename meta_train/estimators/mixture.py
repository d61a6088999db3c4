"""One estimator for each family of a mixture, one of which speaks at a meta-step."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimate, Estimator, EstimatorState, Theta


def mix(estimators: Mapping[str, Estimator], weights: Mapping[str, float]) -> Estimator:
    """Returns the estimator that draws, by weight, whose estimate a meta-step takes.

    All workers follow one draw, so that a meta-step costs what its family costs, and
    each family is compiled once. The data and the state of the mixture are tuples, one
    entry for each family in order; only the drawn one's state moves on. Metrics gain
    `loss/<family>`, NaN for those that were not drawn.

    Args:
      estimators: by the name of their family, all of one theta.
      weights: by the same names, >= 0; they need not add up to 1.

    Raises:
      ValueError: if names differ, or no weight is positive.
    """
    names = list(estimators)
    least, total = min(weights.values()), sum(weights.values())
    if set(names) != set(weights) or least < 0 or total <= 0:
        raise ValueError(
            f"need a weight >= 0 for each of {', '.join(names)}, one of them "
            f"positive, got {dict(weights)}."
        )
    if len(names) == 1:
        return _alone(estimators[names[0]])
    shares = jnp.array([weights[name] / total for name in names])

    def init(theta: Theta, data: tuple, key: jax.Array) -> EstimatorState:
        keys = jax.random.split(key, len(names))
        each = zip(estimators.values(), data, keys, strict=True)
        return tuple(one.init(theta, own, own_key) for one, own, own_key in each)

    def estimate(
        theta: Theta, state: tuple, data: tuple, key: jax.Array
    ) -> tuple[Estimate, EstimatorState]:
        draw_key, own_key = jax.random.split(key)
        drawn = jax.random.choice(draw_key, len(names), p=shares)

        def speaking(index: int) -> Any:
            def speak(theta, state, data, key):
                one = estimators[names[index]]
                found, own = one.estimate(theta, state[index], data[index], key)
                losses = {f"loss/{name}": jnp.nan * found.loss for name in names}
                losses[f"loss/{names[index]}"] = found.loss
                found = found._replace(metrics=found.metrics | losses)
                return found, (*state[:index], own, *state[index + 1 :])

            return speak

        branches = [speaking(index) for index in range(len(names))]
        return jax.lax.switch(drawn, branches, theta, state, data, own_key)

    return Estimator(init, estimate)


def _alone(one: Estimator) -> Estimator:
    """Returns the mixture of one, which draws nothing."""

    def init(theta: Theta, data: tuple, key: jax.Array) -> EstimatorState:
        return (one.init(theta, data[0], key),)

    def estimate(theta, state, data, key):
        found, own = one.estimate(theta, state[0], data[0], key)
        return found, (own,)

    return Estimator(init, estimate)
