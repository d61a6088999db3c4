"""muP autoencoders of images and tables: by MLP, deterministic and variational."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from common.names import known
from tasks import data
from tasks.base import Batch, TaskFamily
from tasks.families import supervised
from tasks.networks import draws, layers, objectives

LOSSES = {
    "squared": lambda outputs, x: jnp.square(outputs - x),
    "bernoulli": optax.sigmoid_binary_cross_entropy,
}


class Network(nn.Module):
    """An encoder, a bottleneck of fixed size, a decoder, and the readout.

    The bottleneck goes from what grows with width to what does not, so under muP it is
    an output layer (docs/formulas.md). Where latents are drawn it can start at zero,
    because the noise keeps the decoder alive; initial codes, which shrink with width,
    then pull no two widths apart. Else it must not: nothing would flow.

    Attributes:
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers of the encoder, and of the decoder.
      latent: numbers that the decoder is given.
      variational: whether they are drawn, when there is a key to draw with.
      outputs: pixels, or columns.
      moments: mean and standard deviation of an input, which standardise it.
      activations: names in `layers.ACTIVATIONS`.
      zero_readout: whether the readout starts at zero, and so does the bottleneck of a
        variational network.
    """

    width: int
    base_width: int
    depth: int
    latent: int
    variational: bool
    outputs: int
    moments: tuple[float, float]
    activations: tuple[str, ...]
    zero_readout: bool

    @nn.compact
    def __call__(
        self, x: UInt8[Array, "n *shape"], activation: Int[Array, ""]
    ) -> tuple[Float[Array, "n pixels"], Float[Array, "n code"]]:
        """Returns outputs, and the code: the latent, or its mean and log variance."""
        x = layers.standardised(x.reshape(len(x), -1), self.moments)
        x = layers.hidden(self, x, activation, "encoder")
        size = self.latent * (2 if self.variational else 1)
        zero = self.variational and self.zero_readout
        code = self._output(x, size, "bottleneck", zero=zero)
        latent = _drawn(self, code) if self.variational else code
        x = layers.hidden(self, latent, activation, "decoder")
        return self._output(x, self.outputs, "readout", zero=self.zero_readout), code

    def _output(self, x: jax.Array, size: int, name: str, *, zero: bool) -> jax.Array:
        return layers.Readout(
            features=size,
            base_fan_in=self.base_width,
            parametrization="mup",
            zero=zero,
            name=name,
        )(x)


def _drawn(module: nn.Module, code: jax.Array) -> jax.Array:
    """Returns a latent drawn from its Gaussian, or the mean without a key."""
    mean, log_variance = jnp.split(code, 2, -1)
    if not module.has_rng("sample"):
        return mean
    noise = jax.random.normal(module.make_rng("sample"), mean.shape, mean.dtype)
    return mean + jnp.exp(log_variance / 2) * noise


def divergence(code: Float[Array, "n code"]) -> Float[Array, " n"]:
    """Returns KL(N(mean, variance) || N(0, I)) in nats.

    Args:
      code: means, then as many logarithms of variances.
    """
    mean, log_variance = jnp.split(code, 2, -1)
    return (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(-1) / 2


def autoencoder(
    *,
    dataset: str,
    resolution: int | None = None,
    width: int,
    base_width: int,
    depth: int,
    latent: int,
    loss: str,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns MLPs that reproduce their inputs through a bottleneck; labels are unread.

    Losses are means over the pixels of inputs scaled to [0, 1]: "squared" errors, or
    "bernoulli" cross entropies in nats, of a pixel that is white by chance. The
    meta-loss is the loss over that of outputs zero: the mean square of a pixel, or
    log 2. For p pixels there are 2 p width + 2 (depth - 1) width^2 + 2 latent width
    weights, each of which an example multiplies once forward and twice backward.
    Digits, width 32, depth 2, latent 4: 6,596 parameters.

    Args:
      dataset: a name of images or tables that `data.load` knows.
      resolution: height and width that images are averaged to; None: as stored.
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers of the encoder, and of the decoder.
      latent: numbers that the decoder is given.
      loss: "squared" or "bernoulli".
      batch_size: examples per batch.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      vary: see `supervised.family`; of `init_scale` and `examples`.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for a name that is not known, or an impossible number.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    known("loss", loss, LOSSES)
    layers.check_sizes(depth=depth, latent=latent)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    arrays = data.load(dataset, resolution=resolution)
    return supervised.fitted(
        Network,
        arrays,
        wanted=_wanted(arrays, loss, variational=False),
        name=f"autoencoder-{loss}-{supervised.titled(dataset, resolution)}"
        f"-width{width}-depth{depth}-batch{batch_size}",
        width=width,
        base_width=base_width,
        depth=depth,
        latent=latent,
        variational=False,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        zero_readout=zero_readout,
    )


def vae(
    *,
    dataset: str,
    resolution: int | None = None,
    width: int,
    base_width: int,
    depth: int,
    latent: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns variational autoencoders (arXiv:1312.6114); arguments as `autoencoder`.

    Losses are negative evidence lower bounds in nats per pixel: the "bernoulli" loss
    of one latent drawn from its Gaussian, plus the Gaussian's divergence from N(0, I)
    over the number of pixels. Without a key the latent is its mean. The meta-loss is
    the loss over log 2, which is the loss at first with `zero_readout`: the bottleneck
    starts at zero too then, so that latents are N(0, I). It has twice the weights.
    Digits, width 32, depth 2, latent 4: 6,728 parameters.
    """
    layers.check_sizes(depth=depth, latent=latent)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    arrays = data.load(dataset, resolution=resolution)
    return supervised.fitted(
        Network,
        arrays,
        wanted=_wanted(arrays, "bernoulli", variational=True),
        name=f"vae-{supervised.titled(dataset, resolution)}"
        f"-width{width}-depth{depth}-batch{batch_size}",
        width=width,
        base_width=base_width,
        depth=depth,
        latent=latent,
        variational=True,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        zero_readout=zero_readout,
    )


def _wanted(
    dataset: data.Dataset, loss: str, *, variational: bool
) -> tuple[objectives.Objective, int]:
    """Returns the mean loss over pixels, with divergence where the latent is drawn, and
    how many pixels there are."""
    inputs = np.asarray(dataset["train"]["input"], float)
    white = max(int(split["input"].max()) for split in dataset.values())
    initial = {"squared": ((inputs / white) ** 2).mean(), "bernoulli": math.log(2)}

    def losses(outputs: tuple[jax.Array, jax.Array], batch: Batch) -> jax.Array:
        outputs, code = outputs
        x = batch["input"].reshape(outputs.shape).astype(outputs.dtype) / white
        value = LOSSES[loss](outputs, x).mean(-1)
        return value + divergence(code) / x.shape[-1] if variational else value

    objective = objectives.Objective(
        losses, lambda outputs, batch: {}, lambda draw: float(initial[loss]), 0
    )
    return objective, inputs[0].size
