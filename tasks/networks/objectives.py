"""What the outputs of networks are fit to: classes, numbers, or what a family wants."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tasks import data
from tasks.base import Batch, Draw


class Objective(NamedTuple):
    """What a network's outputs are fit to.

    Attributes:
      losses: (outputs, batch) -> losses, of the shape of labels.
      aux: (outputs, batch) -> {"logits": ..., "hits": ...}, both or neither.
      initial: (draw) -> the loss of a network that knows nothing.
      classes: of the labels; 0 where they are numbers.
    """

    losses: Callable[[Any, Batch], jax.Array]
    aux: Callable[[Any, Batch], dict[str, jax.Array]]
    initial: Callable[[Draw], Any]
    classes: int


def softmax(classes: int) -> Objective:
    """Returns the cross entropy with integer labels, in nats.

    Args:
      classes: logits are [..., classes], labels and losses [...].
    """

    def losses(logits: jax.Array, batch: Batch) -> jax.Array:
        labels = jnp.maximum(batch["label"], 0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def aux(logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        return {"logits": logits, "hits": logits.argmax(-1) == batch["label"]}

    def initial(draw: Draw) -> Any:
        return jnp.log(draw["member"].sum()) if "member" in draw else math.log(classes)

    return Objective(losses, aux, initial, classes)


def squared(mean: float, std: float) -> Objective:
    """Returns half the squared error of one output to labels, once standardised.

    Args:
      mean: of the training labels; outputs are [n, 1], labels and losses [n].
      std: their standard deviation.
    """

    def losses(outputs: jax.Array, batch: Batch) -> jax.Array:
        return jnp.square(outputs[..., 0] - (batch["label"] - mean) / std) / 2

    return Objective(losses, lambda outputs, batch: {}, lambda draw: 0.5, 0)


def for_dataset(dataset: data.Dataset) -> tuple[Objective, int]:
    """Returns what a dataset asks for, and how many outputs that takes.

    Labels [n] that are floats ask for regression by one output [n, 1], others, and
    text [n, t + 1], for classification by as many as there are classes.
    """
    classes = data.classes(dataset)
    if classes:
        return softmax(classes), classes
    label = np.asarray(dataset["train"]["label"])
    return squared(float(label.mean()), float(label.std())), 1
