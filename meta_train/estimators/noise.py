"""Perturbations of theta, and what the losses of a perturbed pair are worth."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Theta, root_mean_square, total
from meta_train.inner.training import Inner
from meta_train.inner.worker import Losses, Worker

SCALE = 0.01  # the root mean square of differences in imitation, as ELO's
TOGETHER = 4096  # most entries of leaves whose noise is drawn together
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
        a tenth of that of all of theta where this is more, or to 1 where all are 0.
      antithetic: whether a pair is theta + eps and theta - eps; else each of it has
        a perturbation of its own, and more variance where losses curve.
      shared_batches: whether a pair sees the same batches; tasks, initial parameters
        and horizons it shares always.
      sign: whether only the signs of differences count; biased, but indifferent to
        losses that explode.
      clip: greatest size of a difference, or None; biased too, where it binds.

    Differences are those of steps in `pes` and `nres`, of means in the others. Those in
    imitation are scaled instead of being cut, see `contrasts`.
    """

    sigma: float = 0.01
    per_leaf: bool = False
    antithetic: bool = True
    shared_batches: bool = True
    sign: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        if not (self.sigma > 0 and (self.clip is None or self.clip > 0)):
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
        floor = jnp.where(floor > 0, floor, 1)
        return jax.tree.map(
            lambda x: self.sigma * jnp.sqrt(jnp.maximum(jnp.mean(x), floor)), squares
        )


NOISE = Noise()  # by default


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
        unlikeness=jax.tree.map(lambda x: x.mean(0), losses.unlikeness),
        taken=losses.taken[0],
        later=losses.later[0],
    )


def means(losses: Losses) -> Losses:
    """Returns the losses of a pair [2, W] as their means over steps [2]."""
    flags = {"taken": losses.taken.any(1), "later": losses.later.any(1)}
    return jax.tree.map(lambda x: x.mean(1), losses)._replace(**flags)


def contrasts(
    inner: Inner, noise: Noise, losses: Losses, pair: Worker, valid: jax.Array
) -> jax.Array:
    """Returns plus less minus of what theta is to lower, [...] for losses [2, ...].

    Under imitation it is (ELO, arXiv:2607.06772), with shares w of `Imitation`,

        w_d 0.01 D_dir / RMS(D_dir) + w_m 0.01 D_mag / RMS(D_mag) + (1 - w_d - w_m) D_L,

    D being the differences of l_dir, l_mag and the objective apart from imitation, and
    RMS their root mean square over all losses of all valid workers.

    Args:
      inner: may ask for imitation.
      noise: cuts the differences of objectives if asked.
      losses: of one pair.
      pair: after the window, leaves [2, ...].
      valid: whether the pair's losses are finite.
    """
    if inner.imitation is None:
        return noise.differences(losses.objective)
    outcome, *unlike = losses.unlikeness
    counts = valid & losses.taken[0]

    def unit(x: jax.Array) -> jax.Array:
        difference = jnp.where(counts, x[0] - x[1], 0)
        size = root_mean_square(difference, counts)
        return difference / jnp.where(size > 0, size, 1)

    direction, magnitude = inner.imitation.shares(pair.windows[0])
    like = direction * unit(unlike[0]) + magnitude * unit(unlike[1])
    return SCALE * like + (1 - direction - magnitude) * noise.differences(outcome)


def _normal(key: jax.Array, theta: Theta, scales: Any) -> Theta:
    leaves, tree = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    noise = [
        scale * x
        for x, scale in zip(normals(keys, leaves), jax.tree.leaves(scales), strict=True)
    ]
    return tree.unflatten(noise)


def normals(keys: jax.Array, like: list[Any]) -> list[jax.Array]:
    """Returns normal arrays like others, each from its key.

    Small ones of a dtype are drawn together, in one program instead of one for each:
    JAX draws the first entries alike whatever the size, by keys that are partitionable,
    as they are by default.
    """
    found: list[Any] = [None] * len(like)
    together: dict[Any, list[int]] = {}
    for i, x in enumerate(like):
        if x.size > TOGETHER:
            found[i] = jax.random.normal(keys[i], x.shape, x.dtype)
        else:
            together.setdefault(x.dtype, []).append(i)
    for dtype, indices in together.items():
        most = max(like[i].size for i in indices)
        draw = functools.partial(jax.random.normal, shape=(most,), dtype=dtype)
        rows = jax.vmap(draw)(keys[jnp.array(indices)])
        for i, row in zip(indices, rows, strict=True):
            found[i] = row[: like[i].size].reshape(like[i].shape)
    return found
