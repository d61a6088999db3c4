"""What the batches of steps are drawn by."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax

from meta_train.inner.worker import Worker
from tasks import base
from tasks.base import Task


class Given(NamedTuple):
    """What the batches of a step are drawn by, or of steps, with an axis more.

    Attributes:
      key: of the step.
      indices: of the examples of the batch of each split, where they are known.
    """

    key: jax.Array
    indices: Mapping[str, jax.Array]


def keys(key: jax.Array, num_steps: int, salt: Any) -> tuple[jax.Array, jax.Array]:
    """Returns keys of each step's batch and of one more, and one for the rest."""
    batch_key, rest_key = jax.random.split(key)
    if salt is not None:
        batch_key = jax.random.fold_in(batch_key, salt)
    return jax.random.split(batch_key, num_steps + 1), rest_key


def given(task: Task, data: Any, keys: jax.Array, splits: Iterable[str]) -> Given:
    """Returns what batches of many steps are drawn by, from a key each."""
    index = task.index
    if index is None:
        return Given(keys, {})

    def drawn(key: jax.Array, split: Any) -> jax.Array:
        return index(data, jax.random.split(key)[0], split)

    each = {s: jax.vmap(functools.partial(drawn, split=s)) for s in sorted(splits)}
    return Given(keys, {split: function(keys) for split, function in each.items()})


def loss(
    task: Task, worker: Worker, data: Any, given: Given, split: str
) -> tuple[jax.Array, dict[str, Any]]:
    """Returns (loss, aux) on a batch."""
    drawn, loss_key = batch(task, data, given, split)
    measure = base.loss if split == "train" else base.evaluate
    return measure(task, worker.params, loss_key, drawn, worker.carried)


def batch(task: Task, data: Any, given: Given, split: str) -> tuple[Any, jax.Array]:
    """Returns a batch and the key of its loss."""
    batch_key, loss_key = jax.random.split(given.key)
    if split in given.indices:
        return task.batch(data, batch_key, split, given.indices[split]), loss_key
    return task.batch(data, batch_key, split), loss_key


def at(tree: Any, index: Any) -> Any:
    """Returns what is given at one step."""
    return jax.tree.map(lambda x: x[index], tree)
