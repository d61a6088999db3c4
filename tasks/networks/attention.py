"""What transformers and mixers are made of: attention, perceptrons, norms, patches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from tasks.networks import layers


class Attention(nn.Module):
    """Multi-head self-attention whose heads grow in size, not in number, with width.

    Logits are q.k sqrt(base size)/size. Divided by sqrt(size) they would grow with
    width, once queries and keys have learned to agree (arXiv:2203.03466, section 4).
    Queries, keys and values have no biases: none of a key can change the softmax.

    Attributes:
      heads: they divide both widths.
      base_width: the width at which muP and standard parametrization agree.
      causal: whether a token attends only to itself and to those before it.
    """

    heads: int
    base_width: int
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n t width"]) -> Float[Array, "n t width"]:
        """Returns what each token gathers from the others."""
        n, t, width = x.shape
        query, key, value = (
            layers.Dense(width, bias=False, name=name)(x).reshape(n, t, self.heads, -1)
            for name in ("query", "key", "value")
        )
        scale = (self.base_width / self.heads) ** 0.5 / (width / self.heads)
        logits = jnp.einsum("nqhd,nkhd->nhqk", query, key) * scale
        self.sow("intermediates", "logits", logits)  # before the mask
        if self.causal:
            seen = jnp.broadcast_to(jnp.tri(t, dtype=bool), logits.shape)
            logits = jnp.where(seen, logits, -1e9)
        weights = jax.nn.softmax(logits)
        gathered = jnp.einsum("nhqk,nkhd->nqhd", weights, value)
        return layers.Dense(width, name="out")(gathered.reshape(n, t, width))


class Perceptron(nn.Module):
    """Two dense layers along the last axis, which keep its size.

    Attributes:
      hidden: units between them.
      activations: names in `layers.ACTIVATIONS`.
    """

    hidden: int
    activations: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n size"], activation: Int[Array, ""]
    ) -> Float[Array, "*n size"]:
        """Returns the outputs; `activation` is an index into `activations`."""
        hidden = layers.Dense(self.hidden, name="expand")(x)
        hidden = layers.activate(hidden, activation, self.activations)
        return layers.Dense(x.shape[-1], name="project")(hidden)


class Block(nn.Module):
    """A pre-norm block of a transformer: attention, then a perceptron on each token.

    Attributes:
      heads: of the attention.
      base_width: the width at which muP and standard parametrization agree.
      causal: whether a token attends only to itself and to those before it.
      mlp_ratio: hidden units of the perceptron over width.
      activations: names in `layers.ACTIVATIONS`.
    """

    heads: int
    base_width: int
    causal: bool
    mlp_ratio: int
    activations: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "n t width"], activation: Int[Array, ""]
    ) -> Float[Array, "n t width"]:
        """Returns tokens with what both have to add."""
        attention = Attention(self.heads, self.base_width, self.causal, name="attend")
        perceptron = Perceptron(
            self.mlp_ratio * x.shape[-1], self.activations, name="mlp"
        )
        x = x + attention(norm("attend_norm")(x))
        return x + perceptron(norm("mlp_norm")(x), activation)


def norm(name: str) -> nn.LayerNorm:
    """Returns a layer norm over the last axis: [..., n] -> [..., n].

    Gains start at 1 and biases at 0, [n] each.
    """
    return nn.LayerNorm(param_dtype=float, name=name)


def embed(number: int, width: int, *, name: str, parametrization: str) -> nn.Embed:
    """Returns a layer that looks up vectors: integers [...] -> [..., width].

    Args:
      number: how many integers have one, from 0 on.
      width: numbers in a vector.
      name: of the layer.
      parametrization: "mup": entries are N(0, 1) at first; "standard": N(0, 1 / width).
    """
    std = {"mup": 1.0, "standard": width**-0.5}[parametrization]
    init = nn.initializers.normal(std)
    return nn.Embed(number, width, param_dtype=float, embedding_init=init, name=name)


def with_positions(
    x: Float[Array, "n t width"], parametrization: str
) -> Float[Array, "n t width"]:
    """Returns tokens plus learned vectors of where they are; call it in a module."""
    _, t, width = x.shape
    embedding = embed(t, width, name="position", parametrization=parametrization)
    positions = embedding(jnp.arange(t))
    return x + jnp.broadcast_to(positions, x.shape)


def patches(images: Num[Array, "n h w c"], size: int) -> Num[Array, "n t pixels"]:
    """Returns the squares of `size` that tile images, row by row, flattened.

    Raises:
      ValueError: if they do not tile them.

    >>> patches(jnp.arange(16).reshape(1, 4, 4, 1), 2)[0, 1].tolist()
    [2, 3, 6, 7]
    """
    n, height, width, channels = images.shape
    if height % size or width % size:
        raise ValueError(
            f"patches must tile images, got size {size} for {height} by {width}."
        )
    shape = (n, height // size, size, width // size, size, channels)
    squares = images.reshape(shape).swapaxes(2, 3)
    return squares.reshape(n, -1, size * size * channels)


def check_heads(*, heads: int, width: int, base_width: int) -> None:
    """Raises ValueError unless heads divide both widths, all at least 1."""
    layers.check_sizes(heads=heads, width=width, base_width=base_width)
    if width % heads or base_width % heads:
        raise ValueError(
            f"heads must divide width and base_width, "
            f"got {heads=}, {width=} and {base_width=}."
        )
