"""muP convolutional networks on images: plain, and residual with a choice of norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers
from jaxtyping import Array, Float, Int, Real

from common.names import known
from tasks.base import TaskFamily
from tasks.families import supervised
from tasks.networks import draws, layers

NORMS = ("batch", "layer", "group", "none")


class Conv(nn.Module):
    """3x3 convolution, padded by 1: standard deviation (9 fan_in)^-1/2, biases 0.

    It multiplies a matrix of patches: under `vmap`, where each worker has kernels of
    its own, XLA's convolution takes up to twice as long.

    Attributes:
      features: channels put out.
      stride: 1, or 2 to halve height and width, rounded up.
      bias: whether there are biases; batch normalisation would take them away again.
    """

    features: int
    stride: int
    bias: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        """Returns the convolution of images x."""
        shape = (3, 3, x.shape[-1], self.features)
        init = initializers.normal((9 * x.shape[-1]) ** -0.5)
        kernel = self.param("kernel", init, shape, float)
        y = _patches(x, self.stride) @ kernel.reshape(-1, self.features)
        return layers.add_bias(self, y) if self.bias else y


def _patches(x: jax.Array, stride: int) -> jax.Array:
    """Returns [n, h2, w2, 9 c], the 3x3 neighbourhood of every stride-th pixel."""
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        x[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(shifted, -1)


class Block(nn.Module):
    """x + two convolutions of x, each after norm and activation (arXiv:1603.05027).

    Where the first has a stride, the sum is with every second pixel of x.

    Attributes:
      width: channels, of x too.
      stride: of the first convolution: 1, or 2 to halve height and width, rounded up.
      norm: one of `NORMS`.
      activations: names in `layers.ACTIVATIONS`.
    """

    width: int
    stride: int
    norm: str
    activations: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], activation: Int[Array, ""], train: bool
    ) -> Float[Array, "n h2 w2 c"]:
        """Returns the sum; `activation` is an index into `activations`."""
        short = x[:, :: self.stride, :: self.stride]
        for index, stride in enumerate((self.stride, 1)):
            if self.norm != "none":
                x = layers.Norm(self.norm, name=f"norm{index}")(x, train)
            x = layers.activate(x, activation, self.activations)
            x = Conv(self.width, stride, self.norm == "none", name=f"conv{index}")(x)
        return short + x


class Network(nn.Module):
    """Convolutions or residual blocks, the mean over positions, then the readout.

    Attributes:
      width: channels of every convolution.
      base_width: the width at which muP and standard parametrization agree.
      strides: of each convolution or block.
      norm: one of `NORMS`, of residual blocks after a first convolution; None: plain
        convolutions, each with an activation after it.
      outputs: logits, or 1 number.
      moments: mean and standard deviation of an input, which standardise it.
      activations: names in `layers.ACTIVATIONS`.
      zero_readout: whether the readout starts at zero.
    """

    width: int
    base_width: int
    strides: tuple[int, ...]
    norm: str | None
    outputs: int
    moments: tuple[float, float]
    activations: tuple[str, ...]
    zero_readout: bool

    @nn.compact
    def __call__(
        self,
        x: Real[Array, "n h w c"],
        activation: Int[Array, ""],
        train: bool = False,
    ) -> Float[Array, "n outputs"]:
        """Returns the outputs; `activation` is an index into `activations`."""
        x = layers.standardised(x, self.moments)
        body = self._plain if self.norm is None else self._residual
        x = body(x, activation, train)
        return layers.Readout(
            features=self.outputs,
            base_fan_in=self.base_width,
            parametrization="mup",
            zero=self.zero_readout,
            name="readout",
        )(x.mean((1, 2)))

    def _plain(self, x: jax.Array, activation: jax.Array, train: bool) -> jax.Array:
        del train
        for index, stride in enumerate(self.strides):
            x = Conv(self.width, stride, bias=True, name=f"conv{index}")(x)
            x = layers.activate(x, activation, self.activations)
        return x

    def _residual(self, x: jax.Array, activation: jax.Array, train: bool) -> jax.Array:
        x = Conv(self.width, 1, bias=self.norm == "none", name="stem")(x)
        for index, stride in enumerate(self.strides):
            block = Block(
                self.width, stride, self.norm, self.activations, name=f"block{index}"
            )
            x = block(x, activation, train)
        if self.norm != "none":
            x = layers.Norm(self.norm, name="norm")(x, train)
        return layers.activate(x, activation, self.activations)


def conv(
    *,
    dataset: str,
    resolution: int | None = None,
    width: int,
    base_width: int,
    depth: int,
    stages: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns plain convolutional networks: `depth` 3x3 convolutions and a readout.

    Losses are softmax cross entropies in nats; the meta-loss is the loss over
    the logarithm of the number of classes. There are 9 c width + 9 (depth - 1) width^2
    kernel weights for images of c channels, and `width` times the classes in the
    readout; an image takes each kernel weight times the pixels put out, in
    multiplications, and a step thrice that. Digits, width 16, depth 4, stages 2: 7,290
    parameters, 0.2 million multiplications an image forward.

    Args:
      dataset: a name of images that `data.load` knows.
      resolution: height and width that images are averaged to; None: as stored.
      width: channels of every convolution.
      base_width: the width at which muP and standard parametrization agree.
      depth: convolutions.
      stages: of about equal depth; the first convolution of each but the first halves
        height and width.
      batch_size: examples per batch.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      vary: see `supervised.family`.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for a name that is not known, an impossible number, or inputs that
        are not images.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    return supervised.fitted(
        Network,
        supervised.images(dataset, resolution),
        name=f"conv-{supervised.titled(dataset, resolution)}-width{width}"
        f"-depth{depth}-batch{batch_size}",
        width=width,
        base_width=base_width,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        strides=_strides(depth, stages),
        norm=None,
        zero_readout=zero_readout,
    )


def resnet(
    *,
    dataset: str,
    resolution: int | None = None,
    width: int,
    base_width: int,
    depth: int,
    stages: int,
    norm: str,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns residual networks (arXiv:1512.03385) of `depth` blocks, norm before.

    Shortcuts have no weights. Losses and arguments are those of `conv`, but that
    `depth` counts blocks of two convolutions, and that channels do not grow from stage
    to stage. There are 9 c width + 18 depth width^2 kernel weights. Digits, width 16,
    depth 2, stages 2, batch normalisation: 9,690 parameters, and running averages that
    the task carries: training uses moments of the batch, evaluation the averages. An
    image takes each kernel weight times the pixels put out, in multiplications (here
    0.38 million forward), and a step thrice that.

    Args:
      norm: "batch", "layer", "group" or "none"; convolutions have biases with "none".
      others: see `conv`.

    Raises:
      ValueError: as `conv`; for "group" if `layers.GROUPS` does not divide widths; for
        "batch" with `vary["batch_size"]`.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    _check_norm(norm, (width, base_width), vary)
    return supervised.fitted(
        Network,
        supervised.images(dataset, resolution),
        name=f"resnet-{norm}-{supervised.titled(dataset, resolution)}-width{width}"
        f"-depth{depth}-batch{batch_size}",
        width=width,
        base_width=base_width,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        strides=_strides(depth, stages),
        norm=norm,
        zero_readout=zero_readout,
    )


def _strides(depth: int, stages: int) -> tuple[int, ...]:
    """Returns 2 where a stage but the first begins, else 1."""
    if not 1 <= stages <= depth:
        raise ValueError(f"need 1 <= stages <= depth, got {stages=} and {depth=}.")
    stage = [index * stages // depth for index in range(depth)]
    return 1, *(1 + b - a for a, b in zip(stage, stage[1:], strict=False))


def _check_norm(norm: str, widths: tuple[int, ...], vary: draws.Vary) -> None:
    """Raises ValueError for what a norm cannot do."""
    known("norm", norm, NORMS)
    if norm == "group" and any(width % layers.GROUPS for width in widths):
        raise ValueError(
            f"group normalisation needs widths that {layers.GROUPS} divides, "
            f"got {widths}."
        )
    if norm == "batch" and "batch_size" in vary:
        raise ValueError(
            "vary['batch_size'] masks examples, which would still enter the statistics "
            "of batch normalisation; vary it with another norm."
        )
