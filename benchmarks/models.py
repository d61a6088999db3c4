"""Networks as users of Flax make them: default initialisation, biases, no muP.

Each entry of `NETWORKS` builds a `Network` of pure functions on tiny data that come
with what is installed. Linen and NNX are both there, for their parameters differ in
names and containers.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lopt.names import known
from tasks import data

CLASSES, BYTES, CONTEXT = 10, 256, 32
TEXTS = 8_192  # lines of bytes that are kept of the standard library
VOCABULARY = 1_024  # of the bigram model


class Network(NamedTuple):
    """A network on its data, as pure functions.

    Attributes:
      init: key -> parameters, by the library's own initialisers.
      batch: key -> a batch; the data are constants on the device.
      loss: (parameters, batch) -> the loss, a float32 scalar.
    """

    init: Callable[[jax.Array], Any]
    batch: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]


class Mlp(nnx.Module):
    """ReLU layers of one width, and a readout."""

    def __init__(self, *, width: int, depth: int, rngs: nnx.Rngs) -> None:
        """Makes `depth` hidden layers."""
        sizes = [64, *[width] * depth]
        pairs = itertools.pairwise(sizes)
        self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])
        self.readout = nnx.Linear(sizes[-1], CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of images [n, 8, 8, 1]."""
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.readout(x)


class Conv(nn.Module):
    """Three convolutions and a readout."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of images."""
        for features, stride in ((1, 1), (2, 2), (2, 2)):
            kernel = nn.Conv(features * self.width, (3, 3), strides=stride)
            x = nn.relu(kernel(x))
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


class Residual(nn.Module):
    """Residual convolutions, without a norm or with one before each.

    Attributes:
      width: channels.
      blocks: of two convolutions each.
      norm: makes a normalisation.
    """

    width: int
    blocks: int
    norm: Callable[[], Callable[[jax.Array], jax.Array]]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of images."""
        x = nn.Conv(self.width, (3, 3), strides=2)(x)
        for _ in range(self.blocks):
            y = x
            for _ in range(2):
                y = nn.Conv(self.width, (3, 3))(nn.relu(self.norm()(y)))
            x += y
        return nn.Dense(CLASSES)(self.norm()(x).mean((1, 2)))


class ResidualNnx(nnx.Module):
    """The same in NNX, with a group normalisation."""

    def __init__(self, *, width: int, blocks: int, rngs: nnx.Rngs) -> None:
        """Makes a stem, blocks of two convolutions, and a readout."""
        conv = functools.partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
        norm = functools.partial(nnx.GroupNorm, width, num_groups=4, rngs=rngs)
        self.stem = conv(1, width, strides=2)
        self.convs = nnx.List([conv(width, width) for _ in range(2 * blocks)])
        self.norms = nnx.List([norm() for _ in range(2 * blocks + 1)])
        self.readout = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of images."""
        x = self.stem(x)
        for i in range(0, len(self.convs), 2):
            y = x
            for norm, conv in zip(self.norms[i : i + 2], self.convs[i:], strict=False):
                y = conv(nnx.relu(norm(y)))
            x += y
        return self.readout(self.norms[-1](x).mean((1, 2)))


class Lstm(nn.Module):
    """A byte-level language model of one LSTM layer."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of the bytes that follow [n, t]."""
        x = nn.Embed(BYTES, self.width)(x)
        return nn.Dense(BYTES)(nn.RNN(nn.OptimizedLSTMCell(self.width))(x))


class Block(nn.Module):
    """A transformer's layer, its LayerNorms before attention and MLP."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Returns [n, t, width] of the same."""
        width = x.shape[-1]
        x += nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x), mask=mask)
        y = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
        return x + nn.Dense(width)(y)


class Transformer(nn.Module):
    """A byte-level decoder with learned positions."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of the bytes that follow [n, t]."""
        mask = nn.make_causal_mask(x)
        positions = nn.Embed(CONTEXT, self.width)(jnp.arange(x.shape[1]))
        x = nn.Embed(BYTES, self.width)(x) + positions[None]
        for _ in range(self.depth):
            x = Block(heads=4)(x, mask)
        return nn.Dense(BYTES)(nn.LayerNorm()(x))


class TransformerNnx(nnx.Module):
    """The same in NNX."""

    def __init__(self, *, width: int, depth: int, rngs: nnx.Rngs) -> None:
        """Makes embeddings, layers and a readout."""
        attention = functools.partial(nnx.MultiHeadAttention, 4, width, decode=False)
        linear = functools.partial(nnx.Linear, rngs=rngs)
        norm = functools.partial(nnx.LayerNorm, width, rngs=rngs)
        self.tokens = nnx.Embed(BYTES, width, rngs=rngs)
        self.positions = nnx.Embed(CONTEXT, width, rngs=rngs)
        self.attention = nnx.List([attention(rngs=rngs) for _ in range(depth)])
        self.up = nnx.List([linear(width, 4 * width) for _ in range(depth)])
        self.down = nnx.List([linear(4 * width, width) for _ in range(depth)])
        self.norms = nnx.List([norm() for _ in range(2 * depth + 1)])
        self.readout = linear(width, BYTES)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of the bytes that follow [n, t]."""
        mask = nnx.make_causal_mask(x)
        x = self.tokens(x) + self.positions(jnp.arange(x.shape[1]))[None]
        norms = iter(self.norms)
        for attend, up, down in zip(self.attention, self.up, self.down, strict=True):
            x += attend(next(norms)(x), mask=mask)
            x += down(nnx.gelu(up(next(norms)(x))))
        return self.readout(next(norms)(x))


class Vit(nn.Module):
    """A vision transformer on patches of 2x2 pixels."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of images."""
        x = _patched(x, self.width)
        positions = nn.Embed(x.shape[1], self.width)(jnp.arange(x.shape[1]))
        x += positions[None]
        for _ in range(self.depth):
            x = Block(heads=4)(x)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class Mixer(nn.Module):
    """An MLP-mixer on patches of 2x2 pixels."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of images."""
        x = _patched(x, self.width)
        for _ in range(self.depth):
            y = nn.LayerNorm()(x).swapaxes(1, 2)
            y = nn.Dense(x.shape[1])(nn.gelu(nn.Dense(self.width)(y)))
            x += y.swapaxes(1, 2)
            y = nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x)))
            x += nn.Dense(self.width)(y)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class Vae(nn.Module):
    """A variational autoencoder whose pixels are Bernoulli variables."""

    width: int
    latent: int = 8

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """Returns the negative evidence bound of each image [n, 64], in nats."""
        y = nn.relu(nn.Dense(self.width)(x))
        mean, log_var = nn.Dense(self.latent)(y), nn.Dense(self.latent)(y)
        z = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)
        logits = nn.Dense(x.shape[1])(nn.relu(nn.Dense(self.width)(z)))
        divergence = (jnp.exp(log_var) + mean**2 - 1 - log_var).sum(1) / 2
        return optax.sigmoid_binary_cross_entropy(logits, x).sum(1) + divergence


class Bigram(nn.Module):
    """An embedding and a readout, which learn what token follows each."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits of the tokens that follow [n]."""
        return nn.Dense(VOCABULARY)(nn.Embed(VOCABULARY, self.width)(x))


def _patched(x: jax.Array, width: int) -> jax.Array:
    """Returns embedded patches [n, 16, width]."""
    x = nn.Conv(width, (2, 2), strides=2)(x)
    return x.reshape(len(x), -1, width)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return loss.mean().astype(jnp.float32)


def linen(module: nn.Module, batch: Callable[[jax.Array], Any]) -> Network:
    """Returns a linen module on its batches (inputs, labels)."""

    def init(key: jax.Array) -> Any:
        return module.init(key, batch(key)[0])["params"]

    def value(params: Any, batch: Any) -> jax.Array:
        x, labels = batch
        # Statistics of a batch normalisation are not trained, and read by no batch.
        logits, _ = module.apply({"params": params}, x, mutable=["batch_stats"])
        return _cross_entropy(logits, labels)

    return Network(init, batch, value)


def from_nnx(
    make: Callable[..., nnx.Module], batch: Callable[[jax.Array], Any]
) -> Network:
    """Returns an NNX module on its batches (inputs, labels)."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))

    def init(key: jax.Array) -> Any:
        return nnx.state(make(rngs=nnx.Rngs(params=key)), nnx.Param)

    def value(params: Any, batch: Any) -> jax.Array:
        x, labels = batch
        return _cross_entropy(nnx.merge(graph, params)(x), labels)

    return Network(init, batch, value)


@functools.cache
def _images() -> tuple[np.ndarray, np.ndarray]:
    """Returns digits in [0, 1], on the host, lest programs compute them anew."""
    arrays = data.load("digits")["train"]
    return np.asarray(arrays["input"]) / np.float32(16), np.asarray(arrays["label"])


@functools.cache
def _lines() -> np.ndarray:
    """Returns some of the lines of the standard library, on the host."""
    lines = np.asarray(data.load("stdlib", context=CONTEXT)["train"]["input"])
    return lines[:: max(1, len(lines) // TEXTS)].astype(np.int32)


def digits(key: jax.Array, *, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns standardised images [n, 8, 8, 1], and labels [n]."""
    images, labels = _images()
    images = jnp.asarray((images - images.mean()) / images.std())
    index = jax.random.randint(key, [size], 0, len(labels))
    return images[index], jnp.asarray(labels)[index]


def pixels(key: jax.Array, *, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns images [n, 64] in [0, 1], and the key of a model's noise."""
    batch_key, noise_key = jax.random.split(key)
    images = _images()[0].reshape(-1, 64)
    return jax.random.choice(batch_key, images, [size]), noise_key


def text(key: jax.Array, *, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns bytes of the standard library [n, t], and those that follow them."""
    x = jax.random.choice(key, jnp.asarray(_lines()), [size])
    return x[:, :-1], x[:, 1:]


def zipf(key: jax.Array, *, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns tokens [n] by Zipf's law, and the one that follows each."""
    follows = jax.random.permutation(jax.random.key(0), VOCABULARY)
    ranks = jnp.log(jnp.arange(1.0, VOCABULARY + 1))
    x = jax.random.categorical(key, -ranks, shape=[size])
    return x, follows[x]


def vae(width: int, size: int) -> Network:
    """Returns the variational autoencoder; a batch carries the key of its noise."""
    module, batch = Vae(width), functools.partial(pixels, size=size)

    def value(params: Any, batch: Any) -> jax.Array:
        return module.apply({"params": params}, *batch).mean()

    return Network(lambda key: module.init(key, *batch(key))["params"], batch, value)


def _linen(make: Callable[..., nn.Module], batch: Callable[..., Any]) -> Any:
    """Returns (width, batch size) -> a linen module on its batches."""
    return lambda width, size: linen(
        make(width=width), functools.partial(batch, size=size)
    )


def _nnx(make: Callable[..., nnx.Module], batch: Callable[..., Any]) -> Any:
    """Returns (width, batch size) -> an NNX module on its batches."""
    return lambda width, size: from_nnx(
        functools.partial(make, width=width), functools.partial(batch, size=size)
    )


class Entry(NamedTuple):
    """How a network is built, how wide it is, and on how large batches.

    Attributes:
      make: (width, batch size) -> the network.
      width: by default.
      tiny: its width where it is to be cheap.
      size: of a batch, by default; half of it where it is to be cheap.
    """

    make: Callable[[int, int], Network]
    width: int
    tiny: int
    size: int


_partial = functools.partial
_residual = _partial(Residual, blocks=3)
_plain = _partial(_residual, norm=lambda: lambda x: x)
_batchnorm = _partial(_residual, norm=_partial(nn.BatchNorm, False))
NETWORKS = {
    "conv": Entry(_linen(Conv, digits), 16, 8, 32),
    "residual": Entry(_linen(_plain, digits), 16, 8, 32),
    "residual-batchnorm": Entry(_linen(_batchnorm, digits), 16, 8, 32),
    "residual-groupnorm-nnx": Entry(
        _nnx(_partial(ResidualNnx, blocks=3), digits), 16, 8, 32
    ),
    **{
        f"mlp-{depth}-nnx": Entry(_nnx(_partial(Mlp, depth=depth), digits), 64, 32, 64)
        for depth in (1, 2, 4, 8)
    },
    "lstm": Entry(_linen(Lstm, text), 64, 16, 16),
    "transformer": Entry(_linen(_partial(Transformer, depth=2), text), 64, 16, 16),
    "transformer-nnx": Entry(_nnx(_partial(TransformerNnx, depth=2), text), 64, 16, 16),
    "vit": Entry(_linen(_partial(Vit, depth=2), digits), 32, 16, 32),
    "mixer": Entry(_linen(_partial(Mixer, depth=2), digits), 32, 16, 32),
    "vae": Entry(vae, 128, 32, 64),
    "bigram": Entry(_linen(Bigram, zipf), 32, 8, 64),
}


def build(name: str, *, tiny: bool = False) -> Network:
    """Returns a network of `NETWORKS`, or a narrower one on batches half as large.

    Raises:
      ValueError: for an unknown name, listing those known.
    """
    known("network", name, NETWORKS)
    entry = NETWORKS[name]
    if tiny:
        return entry.make(entry.tiny, entry.size // 2)
    return entry.make(entry.width, entry.size)
