"""muP convolutional networks on images: plain, and residual with a choice of norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers
from jaxtyping import Array, Float, Int, UInt8

from tasks import data, draws, layers, supervised
from tasks.base import TaskFamily, known

NORMS = ("batch", "layer", "group", "none")
GROUPS = 4  # of group normalisation: few, so that groups of narrow networks hold many
DECAY = 0.9  # of running averages: inner runs are too short for the usual 0.99
EPSILON = 1e-5  # of a variance


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
        if not self.bias:
            return y
        bias = self.param("bias", initializers.zeros, (self.features,), float)
        return y + jnp.broadcast_to(bias, y.shape)


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


class Norm(nn.Module):
    """Normalisation to mean 0 and variance 1, then gains, at first 1, and biases, 0.

    The mean is over images and positions ("batch", arXiv:1502.03167), or of each image
    over positions and channels ("layer", arXiv:1607.06450), all or those of one of
    `GROUPS` groups ("group", arXiv:1803.08494). Batch normalisation carries running
    averages of both moments, which it normalises by in evaluation.

    Attributes:
      kind: one of `NORMS` but "none".
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


class Block(nn.Module):
    """x + two convolutions of x, each after norm and activation (arXiv:1603.05027).

    Where the first has a stride, the sum is with every second pixel of x.
    """

    width: int
    stride: int
    norm: str
    activations: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], activation: Int[Array, ""], train: bool
    ) -> Float[Array, "n h2 w2 c"]:
        """Returns the sum."""
        short = x[:, :: self.stride, :: self.stride]
        for index, stride in enumerate((self.stride, 1)):
            if self.norm != "none":
                x = Norm(self.norm, name=f"norm{index}")(x, train)
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
        x: UInt8[Array, "n h w c"],
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
            x = Norm(self.norm, name="norm")(x, train)
        return layers.activate(x, activation, self.activations)


def conv(
    *,
    dataset: str,
    resolution: int | None,
    width: int,
    base_width: int,
    depth: int,
    stages: int,
    batch_size: int,
    activations: tuple[str, ...],
    vary: draws.Vary,
    zero_readout: bool,
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

    Raises:
      ValueError: for a name that is not known, an impossible number, or inputs that
        are not images.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    return _family(
        "conv",
        dataset=dataset,
        resolution=resolution,
        width=width,
        base_width=base_width,
        strides=_strides(depth, stages),
        norm=None,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        zero_readout=zero_readout,
    )


def resnet(
    *,
    dataset: str,
    resolution: int | None,
    width: int,
    base_width: int,
    depth: int,
    stages: int,
    norm: str,
    batch_size: int,
    activations: tuple[str, ...],
    vary: draws.Vary,
    zero_readout: bool,
) -> TaskFamily:
    """Returns residual networks (arXiv:1512.03385) of `depth` blocks, norm before.

    Shortcuts have no weights. Losses and arguments are those of `conv`, but that
    `depth` counts blocks of two convolutions, and that channels do not grow from stage
    to stage. There are 9 c width + 18 depth width^2 kernel weights. Digits, width 16,
    depth 2, stages 2, batch normalisation: 9,690 parameters, and running averages that
    the task carries: training uses moments of the batch, evaluation the averages.

    Args:
      norm: "batch", "layer", "group" or "none"; convolutions have biases with "none".
      others: see `conv`.

    Raises:
      ValueError: as `conv`; for "group" if `GROUPS` does not divide widths; for "batch"
        with `vary["batch_size"]`.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    _check_norm(norm, (width, base_width), vary)
    return _family(
        f"resnet-{norm}",
        dataset=dataset,
        resolution=resolution,
        width=width,
        base_width=base_width,
        strides=_strides(depth, stages),
        norm=norm,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        zero_readout=zero_readout,
    )


def _family(
    kind: str,
    *,
    dataset,
    resolution,
    width,
    base_width,
    strides,
    norm,
    batch_size,
    activations,
    vary,
    zero_readout,
) -> TaskFamily:
    """Returns a family of `Network`."""
    arrays = data.load(dataset, resolution=resolution)
    if arrays["train"]["input"].ndim != 4:
        raise ValueError(f"convolutions need images, got {dataset=}.")
    size = "" if resolution is None else f"@{resolution}"
    return supervised.fitted(
        Network,
        arrays,
        name=f"{kind}-{dataset}{size}-width{width}-depth{len(strides)}-batch{batch_size}",
        width=width,
        base_width=base_width,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        strides=strides,
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
    if norm == "group" and any(width % GROUPS for width in widths):
        raise ValueError(
            f"group normalisation needs widths that {GROUPS} divides, got {widths}."
        )
    if norm == "batch" and "batch_size" in vary:
        raise ValueError(
            "vary['batch_size'] masks examples, which would still enter the statistics "
            "of batch normalisation; vary it with another norm."
        )
