"""What varies from draw to draw of a supervised family, in one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.names import known
from tasks.base import SPLITS, Batch, Data, Draw, Key, Split, log_uniform

Vary = Mapping[str, tuple[float, float]]
NOTHING: Vary = {}  # varies
VARIABLE = ("init_scale", "label_noise", "classes", "examples", "batch_size")
COUNTS = {"classes", "batch_size"}  # whose bounds are whole
OF_CLASSES = {"classes", "label_noise", "batch_size"}  # that need classes as labels


class Sampler(NamedTuple):
    """How batches of a dataset are drawn.

    Attributes:
      classes: of the labels; 0 without classes.
      batch_size: examples per batch.
      varied: names of `VARIABLE` that vary.
    """

    classes: int
    batch_size: int
    varied: frozenset[str]


def sampler(
    arrays: Data, *, classes: int, batch_size: int, vary: Vary
) -> tuple[Data, Sampler]:
    """Returns the dataset with what drawing from it needs, and how it is drawn.

    Args:
      arrays: {split: {"input", "label"}}, or only inputs.
      classes: of the labels; 0 without classes.
      batch_size: examples per batch.
      vary: bounds by name, see `VARIABLE`.

    Raises:
      ValueError: for an unknown name, an empty range, or one that the data rule out.
    """
    _check(vary, classes, batch_size)
    if "label" not in arrays["train"] and vary.keys() & {"classes", "label_noise"}:
        raise ValueError("text has no labels: classes and label_noise cannot vary.")
    how = Sampler(classes, batch_size, frozenset(vary))
    if not vary.keys() & {"classes", "examples"}:
        return arrays, how
    labels = {split: _labels(arrays[split], classes) for split in SPLITS}
    order = {s: np.argsort(x, kind="stable") for s, x in labels.items()}
    counts = {s: np.bincount(x, minlength=max(1, classes)) for s, x in labels.items()}
    return {
        **arrays,
        **jax.tree.map(jnp.asarray, dict(order=order, counts=counts)),
    }, how


def sample(key: Key, *, activations: int, classes: int, vary: Vary) -> Draw:
    """Returns the arrays that name one task: what does not vary is not in them."""
    activation_key, *keys = jax.random.split(key, 7)
    scale_key, noise_key, class_key, example_key, offset_key, size_key = keys
    draw = {"activation": jax.random.randint(activation_key, [], 0, activations)}
    if "init_scale" in vary:
        draw["init_scale"] = log_uniform(scale_key, *vary["init_scale"])
    if "label_noise" in vary:
        low, high = vary["label_noise"]
        share_key, seed_key = jax.random.split(noise_key)
        draw["label_noise"] = jax.random.uniform(share_key, [], float, low, high)
        draw["noise_seed"] = jax.random.bits(seed_key)
    if "classes" in vary:
        low, high = vary["classes"]
        number_key, order_key = jax.random.split(class_key)
        number = jax.random.randint(number_key, [], int(low), int(high) + 1)
        draw["member"] = jax.random.permutation(order_key, classes) < number
    if "examples" in vary:
        draw["examples"] = log_uniform(example_key, *vary["examples"])
        draw["offset"] = jax.random.uniform(offset_key)
    if "batch_size" in vary:
        low, high = vary["batch_size"]
        size = jnp.floor(log_uniform(size_key, low, high + 1))
        draw["batch_size"] = jnp.minimum(size, high).astype(jnp.int32)
    return draw


def index(how: Sampler) -> Callable[[Data, Key, Split], jax.Array] | None:
    """Returns what draws indices of examples, if that does not depend on the task."""
    if how.varied & {"classes", "examples"}:
        return None

    def drawn(arrays: Data, key: Key, split: Split) -> jax.Array:
        number = len(arrays[split]["input"])
        return jax.random.randint(key, [how.batch_size], 0, number)

    return drawn


def batch(
    how: Sampler,
    draw: Draw,
    arrays: Data,
    key: Key,
    split: Split,
    index: jax.Array | None = None,
) -> Batch:
    """Returns a batch, drawn with replacement from what the draw leaves of a split.

    Args:
      how: from `sampler`.
      draw: from `sample`.
      arrays: from `sampler`.
      key: of the batch.
      split: static.
      index: of its examples, where the key need not draw them.

    Returns:
      {"input": [batch_size, ...] as stored, "label": [batch_size]}; of text both are
      [batch_size, t], where labels are the bytes that follow. Labels of a training
      batch that do not count are -1.
    """
    stored = arrays[split]
    if index is None:
        index = _index(how, draw, arrays, key, split)
    found = {name: array[index] for name, array in stored.items()}
    if "label" not in found:  # text: each byte is to be told from those before it
        text = found["input"]
        found = {"input": text[:, :-1], "label": text[:, 1:].astype(jnp.int32)}
    if split != "train":
        return found
    if "label_noise" in how.varied:
        found["label"] = _noisy(draw, found["label"], index, how.classes)
    if "batch_size" in how.varied:
        counts = jnp.arange(how.batch_size) < draw["batch_size"]
        counts = counts.reshape(-1, *[1] * (found["label"].ndim - 1))
        found["label"] = jnp.where(counts, found["label"], -1)
    return found


def members(draw: Draw, classes: int) -> jax.Array:
    """Returns [classes], whether each class is among those of the draw.

    Args:
      draw: from `sample`; where it has no "member", all are.
      classes: how many there are.
    """
    return draw.get("member", jnp.ones(classes, bool))


def possible(draw: Draw, logits: Any) -> Any:
    """Returns logits [..., classes], so low of other classes than the draw's that those
    are impossible."""
    return jnp.where(draw["member"], logits, -1e9) if "member" in draw else logits


def weights(
    draw: Draw, batch: Batch, classes: int, losses: jax.Array
) -> jax.Array | None:
    """Returns which losses count, of their shape, or None if all do."""
    if not {"member", "batch_size"} & draw.keys():
        return None
    label = batch["label"]
    counts = (label >= 0) & members(draw, classes)[jnp.maximum(label, 0)]
    return jnp.broadcast_to(counts, losses.shape)


def mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Returns the mean over what counts."""
    if weights is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(weights, values, 0)) / jnp.maximum(weights.sum(), 1)


def _index(how: Sampler, draw: Draw, arrays: Data, key: Key, split: Split) -> jax.Array:
    """Returns [batch_size] indices of examples of the draw's classes and share.

    The share of a class is a stretch of its examples that begins where the draw says.
    """
    alike = index(how)
    if alike is not None:
        return alike(arrays, key, split)
    order, counts = arrays["order"][split], arrays["counts"][split]
    share = draw.get("examples", 1.0) if split == "train" else 1.0
    used = jnp.ceil(share * counts).astype(jnp.int32) * members(draw, len(counts))
    ends = jnp.cumsum(used)
    number = jax.random.randint(key, [how.batch_size], 0, ends[-1])
    label = jnp.searchsorted(ends, number, side="right")
    first = jnp.cumsum(counts) - counts
    begin = (draw.get("offset", 0.0) * counts).astype(jnp.int32)
    place = number - (ends - used)[label] + begin[label]
    return order[first[label] + place % jnp.maximum(counts[label], 1)]


def _noisy(draw: Draw, labels: jax.Array, index: jax.Array, classes: int) -> jax.Array:
    """Returns labels of which a share is false: always those of the same examples."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(draw["noise_seed"]), index
    )
    chance, which = jax.vmap(lambda k: jax.random.uniform(k, [2]))(keys).T
    member = members(draw, classes)
    first = jnp.argsort(~member)  # members come first
    place = jnp.argsort(first)[labels]  # the place of each label among them
    other = (which * (member.sum() - 1)).astype(jnp.int32)
    false = first[other + (other >= place)]
    return jnp.where(chance < draw["label_noise"], false, labels)


def _labels(split: Mapping[str, Any], classes: int) -> np.ndarray:
    """Returns the classes of a split's examples: all 0 where there are none."""
    if classes and "label" in split:
        return np.asarray(split["label"])
    return np.zeros(len(split["input"]), np.int32)


def _check(vary: Vary, classes: int, batch_size: int) -> None:
    """Raises ValueError unless every name is known and every range possible."""
    for name in vary:
        known("variation", name, VARIABLE)
    if not classes and vary.keys() & OF_CLASSES:
        raise ValueError(
            f"{', '.join(sorted(OF_CLASSES))} need labels that are classes, "
            f"got {vary=}."
        )
    limits = {
        "init_scale": (0, float("inf")),
        "label_noise": (0, 1),
        "classes": (2, classes),
        "examples": (0, 1),
        "batch_size": (1, batch_size),
    }
    for name, (low, high) in vary.items():
        least, greatest = limits[name]
        positive = low > 0 or name == "label_noise"
        if not (positive and least <= low <= high <= greatest):
            raise ValueError(
                f"vary[{name!r}] must be within [{least}, {greatest}], with low <= "
                f"high, got {vary[name]}."
            )
        if name in COUNTS and (low % 1 or high % 1):
            raise ValueError(f"vary[{name!r}] must be whole, got {vary[name]}.")
