"""The per-parameter MLP, applied to every entry of a tensor at once."""

import jax
import jax.numpy as jnp

from lopt.types import Array, Features, Float, Key, Theta


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


def apply(
    theta: Theta, features: Features, scales: Features
) -> Float[Array, "outputs *p"]:
    """Returns the outputs for every entry of a tensor of shape [*p].

    The first layer is four products, one for each rank at which features are kept,
    added by broadcasting; `scales` multiply its weights, which costs nothing per
    parameter.
    """
    w0 = Features(**theta["w0"])
    *parts, tensor = (
        jnp.einsum("f...,f,fh->h...", x, scale, w)
        for x, scale, w in zip(features, scales, w0, strict=True)
    )
    ndim = parts[0].ndim - 1
    x = sum(parts) + _per_unit(tensor + theta["b0"], ndim)
    for i in range(1, len([name for name in theta if name[0] == "w"])):
        x = jnp.einsum("k...,kh->h...", jax.nn.relu(x), theta[f"w{i}"])
        x = x + _per_unit(theta[f"b{i}"], ndim)
    return x


def _per_unit(bias: jax.Array, ndim: int) -> jax.Array:
    return bias.reshape(-1, *[1] * ndim)
