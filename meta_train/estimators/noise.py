"""Perturbations of theta, and what the losses of a perturbed pair are worth."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Theta, total
from meta_train.unroll import Losses

FLOOR = 0.1  # of the root mean square of theta, for leaves that are smaller


class Kick(NamedTuple):
    """How the thetas of one pair differ from theta.

    Attributes:
      move: leaves [2, ...], what is added to theta for each of the pair.
      score: leaves like theta; multiplied by the difference of the pair's losses it is
        an unbiased estimate of the smoothed loss's gradient.
    """

    move: Theta
    score: Theta


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """Settings of the perturbations of theta, normal and independent.

    Attributes:
      sigma: standard deviation.
      per_leaf: whether `sigma` is relative to each leaf's root mean square, or to
        a tenth of that of all of theta where this is more.
      antithetic: whether a pair is theta + eps and theta - eps; else each of it has
        a perturbation of its own, and twice the variance or more.
      shared_batches: whether a pair sees the same batches; tasks, initial parameters
        and horizons it shares always.
      sign: whether only the signs of differences count; biased, but indifferent to
        losses that explode.
      clip: greatest size of a difference, or None; biased too, where it binds.

    Differences are those of steps in `pes` and `nres`, of means in the others.
    """

    sigma: float
    per_leaf: bool
    antithetic: bool
    shared_batches: bool
    sign: bool
    clip: float | None

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        if self.sigma <= 0 or (self.clip is not None and self.clip <= 0):
            raise ValueError(
                f"noise needs sigma > 0 and clip > 0 or None, got {self.sigma} and "
                f"{self.clip}."
            )

    def draw(self, key: jax.Array, theta: Theta) -> Kick:
        """Returns the kick of one pair."""
        scales = self._scales(theta)
        plus = _normal(key, theta, scales)
        if self.antithetic:
            minus = jax.tree.map(jnp.negative, plus)
            score = jax.tree.map(lambda e, s: e / (2 * s**2), plus, scales)
        else:
            minus = _normal(jax.random.fold_in(key, 1), theta, scales)
            # Each loss is the other's baseline.
            score = jax.tree.map(
                lambda a, b, s: (a - b) / (2 * s**2), plus, minus, scales
            )
        return Kick(stacked(plus, minus), score)

    def salts(self) -> jax.Array | None:
        """Returns a salt for the batches of each of a pair, or None to share them."""
        return None if self.shared_batches else jnp.arange(2)

    def differences(self, objectives: jax.Array) -> jax.Array:
        """Returns plus less minus of objectives [2, ...], as far as they count."""
        difference = objectives[0] - objectives[1]
        if self.clip is not None:
            difference = jnp.clip(difference, -self.clip, self.clip)
        return jnp.sign(difference) if self.sign else difference

    def _scales(self, theta: Theta) -> Any:
        """Returns the standard deviation in each leaf."""
        if not self.per_leaf:
            return jax.tree.map(lambda leaf: self.sigma, theta)
        squares = jax.tree.map(jnp.square, theta)
        size = sum(leaf.size for leaf in jax.tree.leaves(theta))
        floor = FLOOR**2 * total(squares) / size
        return jax.tree.map(
            lambda x: self.sigma * jnp.sqrt(jnp.maximum(jnp.mean(x), floor)), squares
        )


def stacked(first: Any, second: Any) -> Any:
    """Returns two trees as one, with leaves [2, ...]."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)


def moved(theta: Theta, kick: Kick) -> Theta:
    """Returns the thetas of a pair, leaves [2, ...]."""
    return jax.tree.map(lambda t, m: t[None] + m, theta, kick.move)


def pair_mean(losses: Losses) -> Losses:
    """Returns the mean of a pair's losses [2, W], with flags that both share."""
    return Losses(
        value=losses.value.mean(0),
        objective=losses.objective.mean(0),
        taken=losses.taken[0],
        later=losses.later[0],
    )


def _normal(key: jax.Array, theta: Theta, scales: Any) -> Theta:
    leaves, tree = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    noise = [
        scale * jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf, scale in zip(keys, leaves, jax.tree.leaves(scales), strict=True)
    ]
    return tree.unflatten(noise)
