"""muP bigram models of a large vocabulary, of which a batch touches few rows."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.base import (
    SPLITS,
    Batch,
    Data,
    Draw,
    Params,
    Split,
    Task,
    TaskFamily,
    normaliser,
)
from tasks.networks import attention, layers
from tasks.networks.objectives import softmax


class Network(nn.Module):
    """Embedded tokens, and the readout.

    Attributes:
      width: of a token's vector.
      base_width: the width at which muP and standard parametrization agree.
      vocabulary: how many tokens there are.
      zero_readout: whether the readout starts at zero.
      parametrization: "mup" or "standard".
    """

    width: int
    base_width: int
    vocabulary: int
    zero_readout: bool
    parametrization: str

    @nn.compact
    def __call__(self, tokens: Int[Array, " n"]) -> Float[Array, "n vocabulary"]:
        """Returns logits of the next token."""
        embed = attention.embed(
            self.vocabulary,
            self.width,
            name="embed",
            parametrization=self.parametrization,
        )
        return layers.Readout(
            self.vocabulary, self.base_width, "mup", self.zero_readout, name="readout"
        )(embed(tokens))


def bigram(
    *,
    vocabulary: int,
    exponent: float,
    noise: tuple[float, float],
    width: int,
    base_width: int,
    batch_size: int,
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns models of which token follows which, where few tokens are frequent.

    A draw holds a permutation, the successor of each token, and how often another token
    follows instead. Both tokens and these others have a frequency of rank^-exponent
    (Zipf's law), so that most rows of the embedding have no gradient at most steps, and
    some never have. Batches are new, drawn on the device; other splits differ only in
    their keys. Losses are in nats, log(vocabulary) at init with a zero readout; the
    meta-loss is the loss over that, clipped as `base.normaliser` says. There are
    2 V width + V parameters of a vocabulary V, and a step takes about six operations
    per example and weight of the readout. V 512, width 16: 16,896 parameters.

    Args:
      vocabulary: how many tokens there are, at least 2.
      exponent: of frequencies, at least 0; 1 is about that of words.
      noise: bounds of the share of successors that are drawn like other tokens,
        uniform, within [0, 1].
      width: of a token's vector.
      base_width: the width at which muP and standard parametrization agree.
      batch_size: pairs of tokens per batch.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for an impossible size, exponent or range.
    """
    layers.check_sizes(width=width, base_width=base_width, batch_size=batch_size)
    check(vocabulary=vocabulary, exponent=exponent, noise=noise)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    model, base, wider = (
        Network(w, base_width, vocabulary, zero_readout, parametrization)
        for w in (width, base_width, 2 * width)
    )
    shapes, base_shapes, wider_shapes = (
        jax.eval_shape(functools.partial(_init, net), jax.random.key(0))
        for net in (model, base, wider)
    )
    return TaskFamily(
        name=f"bigram{vocabulary}-exponent{exponent:g}-width{width}-batch{batch_size}",
        data={"cumulative": cumulative(vocabulary, exponent)},
        sample=functools.partial(_sample, vocabulary, noise),
        task=functools.partial(_task, model, batch_size),
        shapes=shapes,
        base_shapes=base_shapes,
        outputs=lambda draw, params, batch: layers.captured(
            model, {"params": params}, batch["input"]
        ),
        wider_shapes=wider_shapes,
    )


def check(*, vocabulary: int, exponent: float, **share: tuple[float, float]) -> None:
    """Raises ValueError for a language that cannot be, or bounds of a share."""
    if vocabulary < 2 or exponent < 0:
        raise ValueError(
            f"need vocabulary >= 2 and exponent >= 0, got {vocabulary=}, {exponent=}."
        )
    for name, (low, high) in share.items():
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"need 0 <= low <= high <= 1 of {name}, got {name}={(low, high)}."
            )


def cumulative(vocabulary: int, exponent: float) -> Float[Array, " vocabulary"]:
    """Returns the share of tokens up to each rank, by Zipf's law."""
    frequencies = jnp.arange(1.0, vocabulary + 1) ** -exponent
    return jnp.cumsum(frequencies) / frequencies.sum()


def ranks(
    key: jax.Array, cumulative: jax.Array, shape: Sequence[int]
) -> Int[Array, "..."]:
    """Returns ranks of independent tokens; that of the most frequent is 0."""
    found = jnp.searchsorted(cumulative, jax.random.uniform(key, shape))
    return jnp.minimum(found, len(cumulative) - 1)  # sums round


def _init(network: Network, key: jax.Array) -> Params:
    """Returns initial parameters."""
    return network.init(key, jnp.zeros([1], jnp.int32))["params"]


def _sample(vocabulary: int, noise: tuple[float, float], key: jax.Array) -> Draw:
    """Returns the arrays that name one language."""
    successor_key, noise_key = jax.random.split(key)
    return {
        "successor": jax.random.permutation(successor_key, vocabulary),
        "noise": jax.random.uniform(noise_key, [], float, *noise),
    }


def _task(network: Network, batch_size: int, draw: Draw) -> Task:
    """Returns the task of a draw."""
    objective = softmax(network.vocabulary)

    def loss(params, key, batch):
        del key
        logits = network.apply({"params": params}, batch["input"])
        aux = objective.aux(logits, batch)
        aux["correct"] = aux.pop("hits").mean()
        return objective.losses(logits, batch).mean(), aux

    def batch(data: Data, key: jax.Array, split: Split) -> Batch:
        key = jax.random.fold_in(key, SPLITS.index(split))
        first_key, other_key, noise_key = jax.random.split(key, 3)
        tokens, others = (
            ranks(k, data["cumulative"], [batch_size]) for k in (first_key, other_key)
        )
        noisy = jax.random.uniform(noise_key, [batch_size]) < draw["noise"]
        label = jnp.where(noisy, others, draw["successor"][tokens])
        return {"input": tokens, "label": label}

    init = functools.partial(_init, network)
    return Task(init, loss, batch, normaliser(objective.initial(draw)))
