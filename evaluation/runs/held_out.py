"""Loss and accuracy on data not trained on, over a whole split where it can be."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tasks import base
from tasks.base import Data, Params, Split, State, Task

BATCHES = 16
CHUNK = 500  # examples looked at at once, which bounds memory


def validate(
    task: Task,
    params: Params,
    key: jax.Array,
    data: Data,
    state: State,
    *,
    split: Split,
) -> tuple[jax.Array, jax.Array]:
    """Returns the mean loss and accuracy over a split.

    A split of the arrays that batches have, such as inputs and labels, is taken whole.
    Else means are over `BATCHES` batches, which `key` fixes. Accuracy
    is NaN unless aux has `correct`, the share of predictions that are right.
    """
    keys = jax.random.split(key, BATCHES)
    shape = jax.eval_shape(lambda: task.batch(data, keys[0], split))
    if isinstance(data, Mapping) and _is_batch_like(data.get(split), shape):
        return _whole(task, params, keys[0], data[split], state)

    def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        data_key, loss_key = jax.random.split(key)
        batch = task.batch(data, data_key, split)
        return _score(task, params, loss_key, batch, state)[:2]

    return jax.tree.map(jnp.mean, jax.vmap(drawn)(keys))


def _whole(
    task: Task, params: Params, key: jax.Array, split: Any, state: State
) -> tuple[jax.Array, jax.Array]:
    """Returns means over all of a split, taken in chunks where it is long."""
    count = len(jax.tree.leaves(split)[0]) // CHUNK
    rest = jax.tree.map(lambda x: x[count * CHUNK :], split)
    chunks = jax.tree.map(
        lambda x: x[: count * CHUNK].reshape(count, CHUNK, *x.shape[1:]), split
    )
    means = []
    if count:
        means.append(jax.lax.map(lambda x: _score(task, params, key, x, state), chunks))
    if len(jax.tree.leaves(rest)[0]):
        remainder = _score(task, params, key, rest, state)
        means.append(jax.tree.map(jnp.atleast_1d, remainder))
    loss, correct, counts = jax.tree.map(lambda *x: jnp.concatenate(x), *means)
    counts = counts / jnp.maximum(counts.sum(), 1)
    return jnp.dot(loss, counts), jnp.dot(correct, counts)


def _score(
    task: Task, params: Params, key: jax.Array, batch: Any, state: State
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns loss, accuracy, and of how many examples they are means."""
    value, aux = base.evaluate(task, params, key, batch, state)
    size = len(jax.tree.leaves(batch)[0]) if jax.tree.leaves(batch) else 1
    count = aux.get("count", size)
    correct = aux.get("correct", jnp.full_like(value, jnp.nan))
    return value, correct, jnp.asarray(count, value.dtype)


def _is_batch_like(split: Any, batch: Any) -> bool:
    """Returns whether a split has the leaves of a batch, all but their number."""
    if jax.tree.structure(split) != jax.tree.structure(batch):
        return False
    pairs = zip(jax.tree.leaves(split), jax.tree.leaves(batch), strict=True)
    return all(a.dtype == b.dtype and a.shape[1:] == b.shape[1:] for a, b in pairs)
