"""Quadratics of sampled conditioning, whose minimum moves from batch to batch."""

import functools

import jax
import jax.numpy as jnp

from common.names import known
from tasks.base import (
    Data,
    Draw,
    Params,
    Split,
    Task,
    TaskFamily,
    log_uniform,
    normaliser,
)

# (position in [-1, 0], condition) -> eigenvalue: 1/condition at -1, and 1 at 0
SPECTRA = {
    "geometric": lambda position, condition: condition**position,
    "uniform": lambda position, condition: 1 + position * (1 - 1 / condition),
    "bimodal": lambda position, condition: condition ** jnp.round(position),
}


def quadratic(
    *,
    dimension: int,
    condition: tuple[float, float],
    noise: tuple[float, float],
    spectrum: str,
    rotation: bool,
) -> TaskFamily:
    """Returns losses (x - y)^T H (x - y) / 2 with H = Q diag(eigenvalues) Q^T.

    y = minimum + noise * z, z ~ N(0, I) drawn with the batch, so that gradients are
    noisy and losses stay positive; aux is empty. Parameters are {"x": [dimension]}, in
    the default float; a step costs two products with a square matrix. The meta-loss is
    the loss over the noise-free loss at init, clipped as `base.normaliser` says.

    Args:
      dimension: unknowns, at least 2: one eigenvalue has no condition.
      condition: bounds of the largest over the smallest eigenvalue, log-uniform; the
        largest is 1.
      noise: bounds of the standard deviation of the minimum's coordinates, uniform.
      spectrum: "geometric", eigenvalues that are spaced evenly in their logarithm;
        "uniform", evenly; "bimodal", one half of them the least, the other, with the
        middle one of an odd number, 1.
      rotation: whether Q is a random rotation; else coordinates are independent, as
        optimizers that act on each parameter alone would have them.

    Raises:
      ValueError: for fewer unknowns, an empty range, or another spectrum.
    """
    known("spectrum", spectrum, SPECTRA)
    if dimension < 2 or not 1 <= condition[0] <= condition[1]:
        raise ValueError(
            f"need dimension >= 2 and 1 <= low <= high of condition, "
            f"got {dimension=} and {condition=}."
        )
    if not 0 <= noise[0] <= noise[1]:
        raise ValueError(f"need 0 <= low <= high of noise, got {noise=}.")
    sample = functools.partial(
        _sample,
        dimension=dimension,
        condition=condition,
        noise=noise,
        spectrum=spectrum,
        rotation=rotation,
    )
    shapes = jax.eval_shape(
        lambda key: {"x": sample(key)["minimum"]}, jax.random.key(0)
    )
    return TaskFamily(
        name=f"quadratic-{dimension}-{spectrum}" + "-rotated" * rotation,
        data=(),
        sample=sample,
        task=_task,
        shapes=shapes,
        base_shapes=shapes,
    )


def _sample(
    key: jax.Array,
    *,
    dimension: int,
    condition: tuple[float, float],
    noise: tuple[float, float],
    spectrum: str,
    rotation: bool,
) -> Draw:
    """Returns the arrays that name one quadratic."""
    condition_key, basis_key, minimum_key, noise_key = jax.random.split(key, 4)
    positions = jnp.linspace(-1.0, 0.0, dimension)
    low, high = noise
    draw = {
        "eigenvalues": SPECTRA[spectrum](
            positions, log_uniform(condition_key, *condition)
        ),
        "minimum": jax.random.normal(minimum_key, [dimension]),
        "noise": low + (high - low) * jax.random.uniform(noise_key),
    }
    if rotation:
        draw["basis"] = jax.random.orthogonal(basis_key, dimension)
    return draw


def _task(draw: Draw) -> Task:
    """Returns the quadratic of a draw."""
    eigenvalues, minimum = draw["eigenvalues"], draw["minimum"]
    # The mean loss over starts from N(minimum, I).
    initial = eigenvalues.sum() / 2

    def value(distance: jax.Array) -> jax.Array:
        along = distance @ draw["basis"] if "basis" in draw else distance
        return (eigenvalues * along**2).sum() / 2

    def init(key: jax.Array) -> Params:
        direction = jax.random.normal(key, minimum.shape, minimum.dtype)
        distance = direction * jnp.sqrt(initial / value(direction))
        return {"x": minimum + distance}

    def loss(params, key, batch):
        del key
        return value(params["x"] - minimum - batch["shift"]), {}

    def batch(data: Data, key: jax.Array, split: Split) -> dict[str, jax.Array]:
        del data, split
        shift = jax.random.normal(key, minimum.shape, minimum.dtype)
        return {"shift": draw["noise"] * shift}

    return Task(init, loss, batch, normaliser(initial))
