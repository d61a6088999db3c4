"""The per-parameter MLP, applied to every entry of a tensor at once."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

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


def first(theta: Theta, inputs: Features) -> list:
    """Returns what the first layer makes of inputs that do not vary by entry.

    A list of what each unit gets, with size 1 where the inputs do not vary.

    Args:
      theta: as from `init`.
      inputs: arrays [f, *p]; `full` is not used.
    """
    parts = [
        jnp.einsum("f...,fh->h...", getattr(inputs, kind), theta["w0"][kind])
        for kind in ("row", "col", "tensor")
    ]
    return [sum(x) for x in zip(*map(jnp.unstack, parts), theta["b0"], strict=True)]


def apply(theta: Theta, full: Sequence, start: Sequence) -> list:
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
    units = [_sum(x, w[:, j], full) for j, x in enumerate(start)]
    for i in range(1, _layers(theta)):
        units = [jax.nn.relu(x) for x in units]
        w, b = theta[f"w{i}"], theta[f"b{i}"]
        units = [_sum(b[j], w[:, j], units) for j in range(w.shape[1])]
    return units


def by_products(theta: Theta, full: Sequence, start: Sequence) -> list:
    """Returns what `apply` does, by products of matrices.

    Units are the last axis, along which such products are fastest on CPUs.
    """
    x = jnp.einsum("f...,fh->...h", jnp.stack(full), theta["w0"]["full"])
    x = x + jnp.stack(start, -1)
    for i in range(1, _layers(theta)):
        x = jnp.einsum("...k,kh->...h", jax.nn.relu(x), theta[f"w{i}"])
        x = x + theta[f"b{i}"].reshape(*[1] * (x.ndim - 1), -1)
    return list(jnp.unstack(x, axis=-1))


def _sum(start: jax.Array, weights: jax.Array, inputs: Sequence[jax.Array]) -> Array:
    """Returns a start plus the weighted sum of inputs."""
    for i, x in enumerate(inputs):
        start = start + weights[i] * x
    return start


def _layers(theta: Theta) -> int:
    """Returns how many layers of weights there are."""
    return len([name for name in theta if name[0] == "w"])
