"""Data sets of one's own, from arrays."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from common import names
from tasks.base import SPLITS

SHARES = (0.7, 0.1, 0.1, 0.1)  # of SPLITS


def from_arrays(
    inputs: Any, labels: Any, *, shares: tuple[float, ...] = SHARES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Returns a data set with its splits, as `data.load` does, from arrays in order.

    Families take it by the name of what holds it: with `POINTS = from_arrays(x, y)` in
    `mine.py`, `--config.family.args.dataset=mine:POINTS`.

    Args:
      inputs: [N, columns] numbers, or [N, height, width, channels] images; kept as they
        are, and standardised by the networks.
      labels: [N]; integers from 0 are classes, floats are numbers to predict.
      shares: of the splits train, inner_valid, outer_valid and test; they add to 1.
      seed: of the order in which examples go to the splits.

    Raises:
      ValueError: for arrays of other shapes or types, numbers that are not finite,
        shares that do not add to 1, or a split that would be empty.

    >>> dataset = from_arrays(np.arange(40.0).reshape(20, 2), np.arange(20) % 2)
    >>> {split: len(arrays["label"]) for split, arrays in dataset.items()}
    {'train': 14, 'inner_valid': 2, 'outer_valid': 2, 'test': 2}
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    _check(inputs, labels)
    ends = np.rint(np.cumsum(shares) * len(inputs)).astype(int)
    sizes = np.diff([0, *ends])
    fine = len(shares) == len(SPLITS) and np.isclose(sum(shares), 1)
    if not fine or (sizes < 1).any():
        raise ValueError(
            f"need shares of {', '.join(SPLITS)} that add to 1 and leave none empty, "
            f"got {shares} of {len(inputs)} examples."
        )
    order = np.random.default_rng(seed).permutation(len(inputs))
    if inputs.dtype.kind == "f":
        inputs = inputs.astype(np.float32)
    kind = np.float32 if labels.dtype.kind == "f" else np.int32
    pairs = zip(SPLITS, np.split(order, ends[:-1]), strict=True)
    return {
        split: {
            "input": jnp.asarray(inputs[index]),
            "label": jnp.asarray(labels[index].astype(kind)),
        }
        for split, index in pairs
    }


def find(name: str) -> dict[str, dict[str, Any]]:
    """Returns the data set that `module:attribute` names.

    Raises:
      ValueError: if there is none.
    """
    found = names.find("data set", name, {})
    if not isinstance(found, Mapping) or found.keys() != {*SPLITS}:
        raise ValueError(f"data set {name!r} is not one that `from_arrays` returns.")
    return dict(found)


def _check(inputs: np.ndarray, labels: np.ndarray) -> None:
    """Raises ValueError for arrays that are no examples."""
    if inputs.ndim not in (2, 4) or labels.shape != inputs.shape[:1]:
        raise ValueError(
            "need inputs [N, columns] or [N, height, width, channels] and labels [N], "
            f"got shapes {inputs.shape} and {labels.shape}."
        )
    if inputs.dtype.kind not in "uif" or labels.dtype.kind not in "uif":
        raise ValueError(f"need numbers, got {inputs.dtype} and {labels.dtype}.")
    if not (np.isfinite(inputs).all() and np.isfinite(labels).all()):
        raise ValueError("need finite numbers in inputs and labels.")
    if labels.dtype.kind != "f" and labels.min() < 0:
        raise ValueError(f"classes are counted from 0, got {labels.min()}.")
