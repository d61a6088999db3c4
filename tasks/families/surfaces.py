"""Classic surfaces that are not convex, with known minima."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from common.names import known
from tasks.base import Data, Draw, Params, Split, Task, TaskFamily, normaliser

# A meta-loss is relative to the mean height in the box, or this at least: a third of
# beale's starts lie below a hundredth, where the loss rises fourfold at a small step.
LEAST = 0.05


class Surface(NamedTuple):
    """A function of d coordinates.

    Attributes:
      value: [d] -> scalar.
      box: least and greatest coordinate of the usual starts.
      minimiser: of every coordinate, or of each; one of several, if there are.
      dimensions: the least and greatest d it is defined for; None: any.
    """

    value: Callable[[Float[Array, " d"]], Float[Array, ""]]
    box: tuple[float, float]
    minimiser: float | tuple[float, ...]
    dimensions: tuple[int, int | None] = (1, None)


def _ackley(x: jax.Array) -> jax.Array:
    radius = optax.safe_root_mean_squares(x, 0.0)  # its minimum is the tip of a cone
    bumps = jnp.exp(jnp.cos(2 * jnp.pi * x).mean())
    return 20 * (1 - jnp.exp(-0.2 * radius)) + jnp.e - bumps


def _beale(x: jax.Array) -> jax.Array:
    terms = (1.5, 2.25, 2.625)
    return sum((c - x[0] * (1 - x[1] ** (i + 1))) ** 2 for i, c in enumerate(terms))


def _griewank(x: jax.Array) -> jax.Array:
    number = jnp.arange(1, len(x) + 1)
    return 1 + jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(number)))


def _himmelblau(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def _levy(x: jax.Array) -> jax.Array:
    w = 1 + (x - 1) / 4
    inner = (w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(jnp.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * jnp.pi * w[-1]) ** 2)
    return jnp.sin(jnp.pi * w[0]) ** 2 + inner.sum() + last


def _rastrigin(x: jax.Array) -> jax.Array:
    return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))


def _rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _styblinski_tang(x: jax.Array) -> jax.Array:
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


SURFACES = {
    "ackley": Surface(_ackley, (-32.768, 32.768), 0.0),
    "beale": Surface(_beale, (-4.5, 4.5), (3.0, 0.5), (2, 2)),
    "griewank": Surface(_griewank, (-600.0, 600.0), 0.0),
    "himmelblau": Surface(_himmelblau, (-5.0, 5.0), (3.0, 2.0), (2, 2)),
    "levy": Surface(_levy, (-10.0, 10.0), 1.0),
    "rastrigin": Surface(_rastrigin, (-5.12, 5.12), 0.0),
    "rosenbrock": Surface(_rosenbrock, (-2.048, 2.048), 1.0, (2, None)),
    # A root of 4 x^3 - 32 x + 5, the derivative.
    "styblinski_tang": Surface(_styblinski_tang, (-5.0, 5.0), -2.903534027771177),
}


def surface(
    *, function: str, dimension: int, rotation: bool, shift: float
) -> TaskFamily:
    """Returns a classic surface, started anywhere in its usual box.

    A draw is a start, uniform in the box, and how coordinates are turned and moved.
    Parameters are {"x": [dimension]}, in the default float, in units of half the box.
    Losses are f less its known minimum, over the mean of that in the box, so that
    steps and slopes mean much the same on every surface; there is no noise, and aux and
    batches are empty. A step costs a few operations per coordinate, and two products
    with a square matrix under rotation. The meta-loss is the loss over that of the
    draw's start, or over `LEAST` where the start is lower, clipped as `base.normaliser`
    says.

    The functions are those of arXiv:1308.4008, the boxes those in common use.

    Args:
      function: a name in `SURFACES`.
      dimension: unknowns; beale and himmelblau have 2, rosenbrock at least 2.
      rotation: whether each draw turns the surface about the middle of its box; most
        are sums over coordinates, which turning couples.
      shift: standard deviation of each coordinate of the middle, in half boxes.

    Raises:
      ValueError: for another function, or a dimension it does not have.
    """
    chosen = SURFACES[known("function", function, SURFACES)]
    least, greatest = chosen.dimensions
    if dimension < least or (greatest and dimension > greatest) or shift < 0:
        raise ValueError(
            f"{function} needs {least} <= dimension <= {greatest or 'any'} and "
            f"shift >= 0, got {dimension=} and {shift=}."
        )
    sample = functools.partial(
        _sample, dimension=dimension, rotation=rotation, shift=shift
    )
    shapes = jax.eval_shape(lambda key: {"x": sample(key)["start"]}, jax.random.key(0))
    turned = "-rotated" * rotation + f"-shifted{shift:g}" * (shift > 0)
    return TaskFamily(
        name=f"surface-{function}-{dimension}{turned}",
        data=(),
        sample=sample,
        task=functools.partial(_task, chosen, _mean_height(chosen, dimension)),
        shapes=shapes,
        base_shapes=shapes,
    )


def _sample(key: jax.Array, *, dimension: int, rotation: bool, shift: float) -> Draw:
    """Returns the start, in coordinates of the box, and what is done to those."""
    start_key, basis_key, shift_key = jax.random.split(key, 3)
    draw = {
        "start": jax.random.uniform(start_key, [dimension], minval=-1, maxval=1),
        "shift": shift * jax.random.normal(shift_key, [dimension]),
    }
    if rotation:
        draw["basis"] = jax.random.orthogonal(basis_key, dimension)
    return draw


def _height(surface: Surface, inside: jax.Array) -> jax.Array:
    """Returns f less its minimum, where coordinates go from -1 to 1 in the box."""
    low, high = surface.box
    x = (low + high) / 2 + (high - low) / 2 * inside
    minimiser = jnp.broadcast_to(jnp.asarray(surface.minimiser), x.shape)
    return surface.value(x) - surface.value(minimiser)


def _mean_height(surface: Surface, dimension: int) -> float:
    """Returns the mean height over the box, estimated always on the same points."""
    shape = [4096, dimension]
    inside = jax.random.uniform(jax.random.key(0), shape, minval=-1, maxval=1)
    heights = jax.vmap(functools.partial(_height, surface))(inside)
    return float(heights.mean())


def _task(surface: Surface, unit: float, draw: Draw) -> Task:
    """Returns the task of a draw; `unit` is the height that is a loss of 1."""
    start, shift, basis = draw["start"], draw["shift"], draw.get("basis")

    def init(key: jax.Array) -> Params:
        del key  # the meta-loss is relative to the draw's own start
        return {"x": shift + (start if basis is None else basis @ start)}

    def loss(params, key, batch):
        del key, batch
        inside = params["x"] - shift
        inside = inside if basis is None else inside @ basis
        return _height(surface, inside) / unit, {}

    def batch(data: Data, key: jax.Array, split: Split) -> tuple:
        del data, key, split
        return ()

    first = _height(surface, start) / unit
    return Task(init, loss, batch, normaliser(jnp.maximum(first, LEAST)))
