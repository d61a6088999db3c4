"""muP Flax layers: dense and readout, norms, and the activations between them."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers
from jaxtyping import Array, Float, Int, Real

from common.names import known

PARAMETRIZATIONS = ("mup", "standard")
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
GROUPS = 4  # of group normalisation: few, so that groups of narrow networks hold many
DECAY = 0.9  # of running averages: inner runs are too short for the usual 0.99
EPSILON = 1e-5  # of a variance


def check_sizes(**sizes: int) -> None:
    """Raises ValueError unless every size is at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")


def base_of(
    parametrization: str, *, width: int, base_width: int, zero_readout: bool
) -> int:
    """Returns the base width that a network's multipliers and `base_shapes` go by.

    Networks in standard parametrization are those of muP at their own width: no
    multiplier, logits of attention over the root of the heads' size, and updates that
    no ratio of widths scales. Only `attention.embed` and recurrent kernels start
    otherwise.

    Args:
      parametrization: "mup", or "standard": networks as Flax makes them by default, but
        that normal numbers are not cut at two deviations.
      width: of the network.
      base_width: the width at which muP multipliers are 1; "standard" ignores it.
      zero_readout: whether the readout starts at zero, which Flax's never does.

    Raises:
      ValueError: for another parametrization, or a zero readout of "standard".
    """
    known("parametrization", parametrization, PARAMETRIZATIONS)
    if parametrization == "mup":
        return base_width
    if zero_readout:
        raise ValueError(
            "parametrization='standard' has a readout that is not zero, got "
            "zero_readout=True; set zero_readout=False."
        )
    return width


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
    x: Real[Array, "*n"], moments: tuple[float, float]
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
        return add_bias(self, x @ kernel) if self.bias else x @ kernel


class Readout(nn.Module):
    """Output layer: under muP, x W base_fan_in/fan_in + b, with b after the multiplier.

    A bias inside the multiplier would learn more slowly as width grows
    (docs/formulas.md; arXiv:2203.03466, Table 8, arXiv:2406.00153).

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
        return add_bias(
            self, (x @ kernel) * (self.base_fan_in / fan_in if mup else 1.0)
        )


class Norm(nn.Module):
    """Normalisation to mean 0 and variance 1, then gains, at first 1, and biases, 0.

    The mean is over images and positions ("batch", arXiv:1502.03167), or of each image
    over positions and channels ("layer", arXiv:1607.06450), all or those of one of
    `GROUPS` groups ("group", arXiv:1803.08494). Batch normalisation carries running
    averages of both moments, which it normalises by in evaluation.

    Attributes:
      kind: "batch", "layer" or "group".
    """

    kind: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: bool
    ) -> Float[Array, "n h w c"]:
        """Returns x normalised; training moves the running averages."""
        groups = {"batch": x.shape[-1], "layer": 1, "group": GROUPS}[self.kind]
        axes = (0, 1, 2, 4) if self.kind == "batch" else (1, 2, 4)
        y = x.reshape(*x.shape[:-1], groups, -1)
        moments = [f(y, axes, keepdims=True) for f in (jnp.mean, jnp.var)]
        if self.kind == "batch":
            moments = _running(self, moments, train)
        mean, variance = (jnp.broadcast_to(m, y.shape) for m in moments)
        y = ((y - mean) * jax.lax.rsqrt(variance + EPSILON)).reshape(x.shape)
        gain = self.param("scale", initializers.ones, (x.shape[-1],), float)
        bias = self.param("bias", initializers.zeros, (x.shape[-1],), float)
        return y * jnp.broadcast_to(gain, y.shape) + jnp.broadcast_to(bias, y.shape)


def _running(norm: Norm, moments: list[jax.Array], train: bool) -> list[jax.Array]:
    """Returns the batch's moments, which move the averages, or in evaluation those."""
    shape = moments[0].shape
    averages = [
        norm.variable("state", name, start, moments[0].size, float)
        for name, start in (("mean", jnp.zeros), ("variance", jnp.ones))
    ]
    if not train:
        return [average.value.reshape(shape) for average in averages]
    for average, moment in zip(averages, moments, strict=True):
        moved = DECAY * average.value + (1 - DECAY) * moment.reshape(-1)
        average.value = moved.astype(average.value.dtype)
    return moments


def hidden(
    network: nn.Module,
    x: Float[Array, "n inputs"],
    activation: Int[Array, ""],
    name: str,
) -> Float[Array, "n units"]:
    """Returns x after the hidden layers of a network, "name0" onwards.

    Called inside the network, which has `width`, `depth` and `activations`.
    """
    for index in range(network.depth):
        x = Dense(network.width, name=f"{name}{index}")(x)
        x = activate(x, activation, network.activations)
    return x


def captured(
    module: nn.Module, variables: dict[str, Any], *inputs: Any, **options: Any
) -> dict[str, jax.Array]:
    """Returns what each layer of a network puts out, or sows, by its path.

    Args:
      module: the network.
      variables: its collections, of which all but "params" may change.
      *inputs: of the network.
      **options: of `module.apply`.
    """
    _, kept = module.apply(
        variables,
        *inputs,
        capture_intermediates=lambda module, _: bool(module.path),
        mutable=["intermediates", *variables.keys() - {"params"}],
        **options,
    )
    leaves = jax.tree_util.tree_leaves_with_path(kept.get("intermediates", {}))
    return {_path(path): leaf for path, leaf in leaves}


def _path(path: Any) -> str:
    """Returns "a/b" for the output of module b in a; a number follows other than the
    first."""
    names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
    number = [key.idx for key in path if isinstance(key, jax.tree_util.SequenceKey)]
    more = "".join(f"#{n}" for n in number if n)
    return "/".join(n for n in names if n != "__call__") + more


def add_bias(
    layer: nn.Module, y: Float[Array, "*n features"]
) -> Float[Array, "*n features"]:
    """Returns y with the layer's bias, which starts at zero, added."""
    bias = layer.param("bias", _zeros, (layer.features,))
    return y + jnp.broadcast_to(bias, y.shape)


def _default_float() -> jnp.dtype:
    """Returns float32, or float64 under `jax_enable_x64`."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(float))


def _zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns zeros of the default float."""
    return jnp.zeros(shape, _default_float())
