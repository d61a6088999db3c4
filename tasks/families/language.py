"""muP byte-level language models: recurrent ones and a decoder-only transformer."""

import functools

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int, UInt8

from common.names import known
from tasks import data
from tasks.base import TaskFamily
from tasks.families import supervised
from tasks.networks import attention, draws, layers, objectives, recurrence

BYTES = 256


def _embedded(text: jax.Array, width: int, parametrization: str) -> jax.Array:
    """Returns the vectors of bytes; call it in a module."""
    embed = attention.embed(BYTES, width, name="embed", parametrization=parametrization)
    return embed(text.astype(int))


class RecurrentNetwork(nn.Module):
    """Embedded bytes, `depth` recurrent layers, and the readout.

    What inputs and what states give to the gates has a kernel each, so that the first
    axis of each is a fan-in, as muP needs.

    Attributes: those of `recurrent`.
    """

    width: int
    base_width: int
    depth: int
    cell: str
    zero_readout: bool
    parametrization: str

    @nn.compact
    def __call__(
        self, text: UInt8[Array, "n t"], activation: Int[Array, ""]
    ) -> Float[Array, "n t bytes"]:
        """Returns logits of the next byte at each time; activations do not vary."""
        del activation
        x = _embedded(text, self.width, self.parametrization)
        for index in range(self.depth):
            gates = recurrence.CELLS[self.cell].gates * self.width
            x = layers.Dense(gates, name=f"input{index}")(x)
            x = recurrence.Recurrence(
                self.width, self.cell, self.parametrization, name=f"recurrent{index}"
            )(x)
        return layers.Readout(
            BYTES, self.base_width, "mup", self.zero_readout, name="readout"
        )(x)


class Transformer(nn.Module):
    """Embedded bytes and positions, `depth` causal blocks, a norm, and the readout.

    Attributes: those of `transformer`.
    """

    width: int
    base_width: int
    depth: int
    heads: int
    mlp_ratio: int
    activations: tuple[str, ...]
    zero_readout: bool
    parametrization: str

    @nn.compact
    def __call__(
        self, text: UInt8[Array, "n t"], activation: Int[Array, ""]
    ) -> Float[Array, "n t bytes"]:
        """Returns logits of the next byte at each time."""
        x = _embedded(text, self.width, self.parametrization)
        x = attention.with_positions(x, self.parametrization)
        for index in range(self.depth):
            x = attention.Block(
                heads=self.heads,
                base_width=self.base_width,
                causal=True,
                mlp_ratio=self.mlp_ratio,
                activations=self.activations,
                name=f"block{index}",
            )(x, activation)
        return layers.Readout(
            BYTES, self.base_width, "mup", self.zero_readout, name="readout"
        )(attention.norm("norm")(x))


def recurrent(
    *,
    dataset: str,
    context: int,
    cell: str,
    width: int,
    base_width: int,
    depth: int,
    batch_size: int,
    vary: draws.Vary = draws.NOTHING,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns recurrent networks that predict each byte of a text from those before.

    Losses are in nats per byte, log 256 = 5.545 at init with a zero readout. With g = 4
    (LSTM), 3 (GRU) or 1 (vanilla) there are g (2 w + 1) w parameters per layer of width
    w, and 512 w + 256 outside: an LSTM of width 64 and depth 1 has 66 thousand. A step
    takes some 6 FLOPs per byte of a batch and parameter, less 1,536 w for the
    embedding.

    Args:
      dataset: a name of a text that `data.load` knows.
      context: bytes of one example, over which gradients reach back.
      cell: "lstm" (arXiv:1402.1128), "gru" (arXiv:1406.1078), or "vanilla": no gates.
      width: units per layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: recurrent layers.
      batch_size: examples per batch.
      vary: see `supervised.family`.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for a name that is not known, or an impossible size or range.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    layers.check_sizes(context=context, depth=depth)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    network = functools.partial(
        RecurrentNetwork,
        base_width=base_width,
        depth=depth,
        cell=known("cell", cell, recurrence.CELLS),
        zero_readout=zero_readout,
        parametrization=parametrization,
    )
    return supervised.family(
        name=f"{cell}-{dataset}-context{context}-width{width}-depth{depth}"
        f"-batch{batch_size}",
        network=network,
        width=width,
        base_width=base_width,
        dataset=data.load(dataset, context=context),
        objective=objectives.softmax(BYTES),
        batch_size=batch_size,
        activations=1,
        vary=vary,
    )


def transformer(
    *,
    dataset: str,
    context: int,
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
    """Returns decoder-only transformers that predict each byte from those before it.

    Pre-norm (arXiv:2002.04745), with learned positions. Losses are in nats per byte,
    log 256 = 5.545 at init with a zero readout. There are (4 + 2 m) w^2 + (6 + m) w
    parameters per block of width w and ratio m, and (514 + context) w + 256 outside:
    with width 64, ratio 4, depth 2 and context 64, 137 thousand. A step takes some 6
    FLOPs per byte of a batch and parameter, less 6 (256 + context) w for embeddings,
    plus 12 context w per block.

    Args:
      dataset: a name of a text that `data.load` knows.
      context: bytes of one example.
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
    layers.check_sizes(context=context, depth=depth, mlp_ratio=mlp_ratio)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    attention.check_heads(heads=heads, width=width, base_width=base_width)
    network = functools.partial(
        Transformer,
        base_width=base_width,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        activations=layers.known_activations(activations),
        zero_readout=zero_readout,
        parametrization=parametrization,
    )
    return supervised.family(
        name=f"transformer-{dataset}-context{context}-width{width}-depth{depth}"
        f"-batch{batch_size}",
        network=network,
        width=width,
        base_width=base_width,
        dataset=data.load(dataset, context=context),
        objective=objectives.softmax(BYTES),
        batch_size=batch_size,
        activations=len(activations),
        vary=vary,
    )
