"""The per-parameter MLP, applied to every entry of a tensor at once."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lopt.rules import tiles
from lopt.types import Array, Features, Key, Theta


def init(
    key: Key[Array, ""], *, inputs: Features, hidden: int, layers: int, outputs: int
) -> Theta:
    """Returns the weights of an MLP inputs -> hidden x layers -> outputs.

    Weights are normal with standard deviation fan_in^-1/2, truncated at two standard
    deviations; biases are zero (arXiv:2203.11860).

    Args:
      key: random key.
      inputs: how many features there are of each kind.
      hidden: units per hidden layer.
      layers: hidden layers, at least 1.
      outputs: outputs per parameter.
    """
    widths = [sum(inputs), *[hidden] * layers, outputs]
    theta = {}
    for i, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        normal = jax.random.truncated_normal(
            jax.random.fold_in(key, i), -2, 2, (fan_in, fan_out)
        )
        theta[f"w{i}"] = normal * fan_in**-0.5
        theta[f"b{i}"] = jnp.zeros(fan_out)
    splits = [sum(inputs[:i]) for i in range(1, len(inputs))]
    theta["w0"] = Features(*jnp.split(theta["w0"], splits))._asdict()
    return theta


UNROLLED = 16  # most units of a layer that are written out one by one


def unrolled(theta: Theta) -> bool:
    """Returns whether `apply` writes units out."""
    return theta["w0"]["full"].shape[1] <= UNROLLED


class Start(NamedTuple):
    """What reaches the first layer beside the inputs that vary by entry.

    Attributes:
      inputs: more inputs, normalised, with size 1 where they do not vary.
      units: what is added to each unit, a list, likewise.
    """

    inputs: list
    units: list


def first(theta: Theta, inputs: Features) -> Start:
    """Returns what the first layer makes of inputs that do not vary by entry.

    A wide layer takes those of rows and columns beside those of entries: more products
    cost less than one more pass over all of its units.

    Args:
      theta: as from `init`.
      inputs: arrays [f, *p]; `full` is not used.
    """
    summed = ("row", "col", "tensor") if unrolled(theta) else ("tensor",)
    parts = [
        jnp.einsum("f...,fh->h...", getattr(inputs, kind), theta["w0"][kind])
        for kind in summed
    ]
    units = [sum(x) for x in zip(*map(jnp.unstack, parts), theta["b0"], strict=True)]
    return Start([] if unrolled(theta) else [*inputs.row, *inputs.col], units)


def apply(theta: Theta, full: Sequence, start: Start) -> list:
    """Returns the outputs for every entry of a tensor of shape [*p], a list of [*p].

    A small network is written out unit by unit, so that XLA makes one pass of it that
    keeps all units of an entry in registers: on CPUs two to three times as fast as
    products of a matrix and a few columns.

    Args:
      theta: as from `init`.
      full: list of [*p], the inputs that vary by entry, normalised.
      start: as from `first`.
    """
    if not unrolled(theta):
        return by_products(theta, full, start)
    w = theta["w0"]["full"]
    units = [_sum(x, w[:, j], full) for j, x in enumerate(start.units)]
    for i in range(1, _layers(theta)):
        units = [jax.nn.relu(x) for x in units]
        w, b = theta[f"w{i}"], theta[f"b{i}"]
        units = [_sum(b[j], w[:, j], units) for j in range(w.shape[1])]
    return units


def by_products(theta: Theta, full: Sequence, start: Start) -> list:
    """Returns what `apply` does, by products of matrices.

    Units are the first axis, so that no large array is transposed; weights are.
    """
    w = theta["w0"]["full"]
    if start.inputs:
        w = jnp.concatenate([theta["w0"][kind] for kind in ("full", "row", "col")])
    placed = jax.typeof(full[0]).sharding if tiles.parted(full[0]) else None
    spread = functools.partial(
        jnp.broadcast_to, shape=full[0].shape, out_sharding=placed
    )
    inputs = [*full, *map(spread, start.inputs)]
    # Not stacked: under `vmap` its axis would stay the first, and all be transposed.
    lined = jnp.concatenate([x[None] for x in inputs])
    x = _product(w, lined) + jnp.stack(start.units)
    for i in range(1, _layers(theta)):
        b = theta[f"b{i}"].reshape(-1, *[1] * (x.ndim - 1))
        x = _product(theta[f"w{i}"], jax.nn.relu(x)) + b
    return list(x)


def _product(weights: Array, x: Array) -> Array:
    """Returns [h, *p] of weights [k, h], which are transposed first, and [k, *p]."""
    return jax.lax.dot_general(weights.T, x, (((1,), (0,)), ((), ())))


def _sum(start: jax.Array, weights: jax.Array, inputs: Sequence[jax.Array]) -> Array:
    """Returns a start plus the weighted sum of inputs."""
    for i, x in enumerate(inputs):
        start = start + weights[i] * x
    return start


def _layers(theta: Theta) -> int:
    """Returns how many layers of weights there are."""
    return len([name for name in theta if name[0] == "w"])
