"""muP Flax layers: dense and readout, and the activations between them."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers
from jaxtyping import Array, Float, Int, UInt8

from tasks.base import known

PARAMETRIZATIONS = ("mup", "standard")
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def known_activations(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names in `ACTIVATIONS`, at least one.

    Raises:
      ValueError: for others, listing those known.
    """
    if not names:
        raise ValueError(f"activations is empty; known: {', '.join(ACTIVATIONS)}.")
    return tuple(known("activation", name, ACTIVATIONS) for name in names)


def activate(
    x: Float[Array, "*n"], index: Int[Array, ""], names: Sequence[str]
) -> Float[Array, "*n"]:
    """Returns x after the activation of an index into names."""
    functions = [ACTIVATIONS[name] for name in names]
    return jax.lax.switch(index, functions, x) if functions[1:] else functions[0](x)


def standardised(
    x: UInt8[Array, "*n"], moments: tuple[float, float]
) -> Float[Array, "*n"]:
    """Returns inputs less their mean, in standard deviations, in the default float."""
    mean, std = moments
    return (x.astype(float) - mean) / std


class Dense(nn.Module):
    """Input or hidden layer: weights of standard deviation fan_in^-1/2, biases 0.

    It starts alike under muP and in standard parametrization, which differ here in
    how updates are scaled (`lopt.mup`; arXiv:2203.03466, Table 8).

    Attributes:
      features: outputs.
      bias: whether there are biases.
    """

    features: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n fan_in"]) -> Float[Array, "*n features"]:
        """Returns x W + b."""
        init = initializers.normal(x.shape[-1] ** -0.5, dtype=_default_float())
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        return _add_bias(self, x @ kernel) if self.bias else x @ kernel


class Readout(nn.Module):
    """Output layer: under muP, x W base_fan_in/fan_in + b, with b after the multiplier.

    A bias inside the multiplier would learn more slowly as width grows
    (FORMULAS 1.2; arXiv:2203.03466, Table 8, arXiv:2406.00153).

    Attributes:
      features: outputs; they do not grow with width.
      base_fan_in: inputs at the base width, where both parametrizations agree.
      parametrization: "mup", or "standard": no multiplier, and an initial standard
        deviation of fan_in^-1/2 in place of base_fan_in^-1/2.
      zero: whether the weights start at zero.
    """

    features: int
    base_fan_in: int
    parametrization: str
    zero: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*n fan_in"]) -> Float[Array, "*n features"]:
        """Returns the logits."""
        if self.parametrization not in PARAMETRIZATIONS:
            raise ValueError(
                f"unknown parametrization {self.parametrization!r}; "
                f"known: {', '.join(PARAMETRIZATIONS)}."
            )
        fan_in = x.shape[-1]
        mup = self.parametrization == "mup"
        std = (self.base_fan_in if mup else fan_in) ** -0.5
        init = _zeros if self.zero else initializers.normal(std, _default_float())
        kernel = self.param("kernel", init, (fan_in, self.features))
        return _add_bias(
            self, (x @ kernel) * (self.base_fan_in / fan_in if mup else 1.0)
        )


def _add_bias(layer: nn.Module, y: Float[Array, "*n features"]) -> jax.Array:
    """Returns y with the layer's bias, which starts at zero, added."""
    bias = layer.param("bias", _zeros, (layer.features,))
    return y + jnp.broadcast_to(bias, y.shape)


def _default_float() -> jnp.dtype:
    """Returns float32, or float64 under `jax_enable_x64`."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(float))


def _zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns zeros of the default float."""
    return jnp.zeros(shape, _default_float())
