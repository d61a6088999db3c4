"""muP MLP-mixers on images."""

import flax.linen as nn
from jaxtyping import Array, Float, Int, Real

from tasks.base import TaskFamily
from tasks.families import supervised
from tasks.networks import attention, draws, layers


class Block(nn.Module):
    """Two perceptrons, each behind a norm: across tokens, then across channels.

    Attributes:
      token_hidden: hidden units across tokens, whose number does not grow with width.
      mlp_ratio: hidden units across channels over width.
      activations: names in `layers.ACTIVATIONS`.
    """

    token_hidden: int
    mlp_ratio: int
    activations: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "n t width"], activation: Int[Array, ""]
    ) -> Float[Array, "n t width"]:
        """Returns tokens with what both have to add."""
        names = self.activations
        hidden = self.mlp_ratio * x.shape[-1]
        tokens = attention.Perceptron(self.token_hidden, names, name="tokens")
        channels = attention.Perceptron(hidden, names, name="channels")
        across = attention.norm("tokens_norm")(x).swapaxes(1, 2)
        x = x + tokens(across, activation).swapaxes(1, 2)
        return x + channels(attention.norm("channels_norm")(x), activation)


class Network(nn.Module):
    """Embedded patches, blocks, a norm, the mean token, and the readout.

    Attributes: those of `mixer`, and
      outputs: logits.
      moments: mean and standard deviation of a pixel, which standardise it.
    """

    width: int
    base_width: int
    depth: int
    token_hidden: int
    mlp_ratio: int
    patch: int
    outputs: int
    moments: tuple[float, float]
    activations: tuple[str, ...]
    zero_readout: bool

    @nn.compact
    def __call__(
        self, images: Real[Array, "n h w c"], activation: Int[Array, ""]
    ) -> Float[Array, "n outputs"]:
        """Returns logits; `activation` is an index into `activations`."""
        x = layers.standardised(attention.patches(images, self.patch), self.moments)
        x = layers.Dense(self.width, name="embed")(x)
        for index in range(self.depth):
            x = Block(
                token_hidden=self.token_hidden,
                mlp_ratio=self.mlp_ratio,
                activations=self.activations,
                name=f"block{index}",
            )(x, activation)
        x = attention.norm("norm")(x).mean(1)
        return layers.Readout(
            self.outputs, self.base_width, "mup", self.zero_readout, name="readout"
        )(x)


def mixer(
    *,
    dataset: str,
    resolution: int | None = None,
    patch: int,
    width: int,
    base_width: int,
    depth: int,
    token_hidden: int,
    mlp_ratio: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns MLP-mixers (arXiv:2105.01601) that classify by the mean token.

    Losses are softmax cross entropies in nats, log(classes) at init with a zero
    readout. With t patches there are 2 m w^2 + (5 + m) w parameters per block of width
    w and ratio m, 2 t h + t + h more across tokens with h hidden units, and (pixels of
    a patch + 3 + classes) w + classes outside: on digits with patch 2, width 64, ratio
    2, 32 hidden units across tokens and depth 2, 37 thousand. A step takes some 6 FLOPs
    per patch of a batch and parameter across channels, and 12 w h per patch and block.

    Args:
      dataset: a name of a set of images that `data.load` knows.
      resolution: height and width that images are averaged to; None: as stored.
      patch: height and width of a patch; it divides those of images.
      width: channels of a token.
      base_width: the width at which muP and standard parametrization agree.
      depth: blocks.
      token_hidden: hidden units of the perceptrons across tokens.
      mlp_ratio: hidden units of the perceptrons across channels over width.
      batch_size: examples per batch.
      activations: of the perceptrons, names in `layers.ACTIVATIONS`, drawn from
        uniformly.
      vary: see `supervised.family`.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for a name that is not known, or an impossible size or range.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    layers.check_sizes(
        depth=depth, token_hidden=token_hidden, mlp_ratio=mlp_ratio, patch=patch
    )
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    return supervised.fitted(
        Network,
        supervised.images(dataset, resolution),
        name=f"mixer-{supervised.titled(dataset, resolution)}-patch{patch}"
        f"-width{width}-depth{depth}-batch{batch_size}",
        width=width,
        base_width=base_width,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        depth=depth,
        token_hidden=token_hidden,
        mlp_ratio=mlp_ratio,
        patch=patch,
        zero_readout=zero_readout,
    )
