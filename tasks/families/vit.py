"""muP vision transformers on images."""

import flax.linen as nn
from jaxtyping import Array, Float, Int, Real

from tasks.base import TaskFamily
from tasks.families import supervised
from tasks.networks import attention, draws, layers


class Network(nn.Module):
    """Embedded patches and positions, blocks, a norm, the mean token, and the readout.

    Attributes: those of `vit`, and
      outputs: logits.
      moments: mean and standard deviation of a pixel, which standardise it.
    """

    width: int
    base_width: int
    depth: int
    heads: int
    mlp_ratio: int
    patch: int
    outputs: int
    moments: tuple[float, float]
    activations: tuple[str, ...]
    zero_readout: bool
    parametrization: str

    @nn.compact
    def __call__(
        self, images: Real[Array, "n h w c"], activation: Int[Array, ""]
    ) -> Float[Array, "n outputs"]:
        """Returns logits; `activation` is an index into `activations`."""
        x = layers.standardised(attention.patches(images, self.patch), self.moments)
        x = layers.Dense(self.width, name="embed")(x)
        x = attention.with_positions(x, self.parametrization)
        for index in range(self.depth):
            x = attention.Block(
                heads=self.heads,
                base_width=self.base_width,
                causal=False,
                mlp_ratio=self.mlp_ratio,
                activations=self.activations,
                name=f"block{index}",
            )(x, activation)
        x = attention.norm("norm")(x).mean(1)
        return layers.Readout(
            self.outputs, self.base_width, "mup", self.zero_readout, name="readout"
        )(x)


def vit(
    *,
    dataset: str,
    resolution: int | None = None,
    patch: int,
    width: int,
    base_width: int,
    depth: int,
    heads: int,
    mlp_ratio: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns vision transformers (arXiv:2010.11929) that classify by the mean token.

    Losses are softmax cross entropies in nats, log(classes) at init with a zero
    readout. There are (4 + 2 m) w^2 + (6 + m) w parameters per block of width w and
    ratio m, and (pixels of a patch + patches + 3 + classes) w + classes outside: on
    digits with patch 2, width 64, ratio 4 and depth 2, 102 thousand. A step takes some
    6 FLOPs per patch of a batch and parameter of a block, and 12 w per pair of patches
    and block.

    Args:
      dataset: a name of a set of images that `data.load` knows.
      resolution: height and width that images are averaged to; None: as stored.
      patch: height and width of a patch; it divides those of images.
      width: of a token.
      base_width: the width at which muP and standard parametrization agree.
      depth: blocks.
      heads: of each block; they divide both widths, and grow in size with width.
      mlp_ratio: hidden units of the perceptrons over width.
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
    layers.check_sizes(depth=depth, mlp_ratio=mlp_ratio, patch=patch)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    attention.check_heads(heads=heads, width=width, base_width=base_width)
    return supervised.fitted(
        Network,
        supervised.images(dataset, resolution),
        name=f"vit-{supervised.titled(dataset, resolution)}-patch{patch}"
        f"-width{width}-depth{depth}-batch{batch_size}",
        width=width,
        base_width=base_width,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        patch=patch,
        zero_readout=zero_readout,
        parametrization=parametrization,
    )
