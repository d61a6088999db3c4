"""muP classifiers of bags of tokens, whose embedding holds mostly rare ones."""

import functools

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
from tasks.families import bigram
from tasks.networks import attention, layers
from tasks.networks.objectives import softmax


class Network(nn.Module):
    """A deep averaging network: the mean of embedded tokens, hidden layers, readout.

    Attributes: those of `bag_of_tokens`.
    """

    width: int
    base_width: int
    vocabulary: int
    classes: int
    depth: int
    activations: tuple[str, ...]
    zero_readout: bool
    parametrization: str

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "n length"], activation: Int[Array, ""]
    ) -> Float[Array, "n classes"]:
        """Returns logits; `activation` is an index into `activations`."""
        embed = attention.embed(
            self.vocabulary,
            self.width,
            name="embed",
            parametrization=self.parametrization,
        )
        # The sum of n independent vectors is n^1/2 as long as one, and so kept as long.
        mean = embed(tokens).sum(1) * tokens.shape[1] ** -0.5
        x = layers.hidden(self, mean, activation, "hidden")
        return layers.Readout(
            self.classes, self.base_width, "mup", self.zero_readout, name="readout"
        )(x)


def bag_of_tokens(
    *,
    vocabulary: int,
    exponent: float,
    length: int,
    classes: int,
    topical: tuple[float, float],
    width: int,
    base_width: int,
    depth: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns classifiers of bags of tokens, as of topics by their words.

    A draw holds an order of the tokens for each class, and which share of a bag is
    topical. A topical token has a frequency of rank^-exponent (Zipf's law) by the order
    of its class, others by one order for all, so that what tells classes apart are also
    tokens that most batches do not have. Batches are new, drawn on the device; other
    splits differ only in their keys. Networks are deep averaging networks (Iyyer et
    al., ACL 2015). Losses are in nats, log(classes) at init with a zero readout; the
    meta-loss is the loss over that, clipped as `base.normaliser` says.

    There are V w + d (w + 1) w + (w + 1) c parameters of a vocabulary V, width w, depth
    d and c classes: 1,024, 32, 1 and 16: 34,352. A step takes about six operations per
    example and weight of the dense layers, and three per token and unit.

    Args:
      vocabulary: how many tokens there are, at least 2.
      exponent: of frequencies, at least 0; 1 is about that of words.
      length: tokens of a bag.
      classes: equally likely, at least 2.
      topical: bounds of the share of topical tokens, uniform, within [0, 1].
      width: of a token's vector, and of hidden layers.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers.
      batch_size: bags per batch.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for an unknown activation, an impossible size, exponent or range.
    """
    layers.check_sizes(width=width, base_width=base_width, depth=depth)
    layers.check_sizes(length=length, batch_size=batch_size)
    bigram.check(vocabulary=vocabulary, exponent=exponent, topical=topical)
    if classes < 2:
        raise ValueError(f"need classes >= 2, got {classes=}.")
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    network = functools.partial(
        Network,
        base_width=base_width,
        vocabulary=vocabulary,
        classes=classes,
        depth=depth,
        activations=layers.known_activations(activations),
        zero_readout=zero_readout,
        parametrization=parametrization,
    )
    shapes, base_shapes, wider_shapes = (
        jax.eval_shape(functools.partial(_init, network(w)), jax.random.key(0))
        for w in (width, base_width, 2 * width)
    )
    model = network(width)
    return TaskFamily(
        name=f"bag{vocabulary}-exponent{exponent:g}-length{length}-classes{classes}"
        f"-width{width}-depth{depth}-batch{batch_size}",
        data={"cumulative": bigram.cumulative(vocabulary, exponent)},
        sample=functools.partial(_sample, model, topical),
        task=functools.partial(_task, model, (batch_size, length)),
        shapes=shapes,
        base_shapes=base_shapes,
        outputs=lambda draw, params, batch: layers.captured(
            model, {"params": params}, batch["input"], draw["activation"]
        ),
        wider_shapes=wider_shapes,
    )


def _init(network: Network, key: jax.Array) -> Params:
    """Returns initial parameters, which do not depend on the activation."""
    tokens, activation = jnp.zeros([1, 1], jnp.int32), jnp.zeros([], jnp.int32)
    return network.init(key, tokens, activation)["params"]


def _sample(network: Network, topical: tuple[float, float], key: jax.Array) -> Draw:
    """Returns the arrays that name one collection of topics."""
    order_key, share_key, activation_key = jax.random.split(key, 3)
    keys = jax.random.split(order_key, network.classes)
    tokens = jnp.arange(network.vocabulary)
    orders = jax.vmap(lambda key: jax.random.permutation(key, tokens))(keys)
    number = len(network.activations)
    return {
        "orders": orders,
        "topical": jax.random.uniform(share_key, [], float, *topical),
        "activation": jax.random.randint(activation_key, [], 0, number),
    }


def _task(network: Network, shape: tuple[int, int], draw: Draw) -> Task:
    """Returns the task of a draw; `shape` is that of a batch's tokens."""
    objective = softmax(network.classes)

    def loss(params, key, batch):
        del key
        logits = network.apply({"params": params}, batch["input"], draw["activation"])
        aux = objective.aux(logits, batch)
        aux["correct"] = aux.pop("hits").mean()
        return objective.losses(logits, batch).mean(), aux

    def batch(data: Data, key: jax.Array, split: Split) -> Batch:
        key = jax.random.fold_in(key, SPLITS.index(split))
        label_key, rank_key, topic_key = jax.random.split(key, 3)
        label = jax.random.randint(label_key, shape[:1], 0, network.classes)
        ranks = bigram.ranks(rank_key, data["cumulative"], shape)
        # A token's rank is its name in the order that all share.
        topical = jax.random.uniform(topic_key, shape) < draw["topical"]
        tokens = jnp.where(topical, draw["orders"][label[:, None], ranks], ranks)
        return {"input": tokens, "label": label}

    init = functools.partial(_init, network)
    return Task(init, loss, batch, normaliser(objective.initial(draw)))
