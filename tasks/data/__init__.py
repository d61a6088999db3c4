"""Datasets as uint8 device arrays: embedded sets and TFDS sets behind one call."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.data import own, stored
from tasks.data.disk import EMBEDDED, blaming, directory, located, misnamed
from tasks.data.disk import DatasetDamaged as DatasetDamaged
from tasks.data.disk import DatasetNotFound as DatasetNotFound

Dataset = dict[str, dict[str, Any]]  # {split: {"input", "label"}}, or only inputs

IN_MEMORY = 2 << 30  # bytes of inputs; of sets with more, windows stream


class Stream(dict):
    """A `Dataset` larger than memory, of which "train" is the first of many windows.

    Attributes:
      window: number -> the training split's window of that number, of equal shapes.
      classes: as `classes` returns.
    """

    def __init__(
        self, splits: Dataset, window: Callable[[int], dict[str, Any]], classes: int
    ) -> None:
        """Keeps the splits and what reads further windows."""
        super().__init__(splits)
        self.window, self.classes = window, classes


def load(
    name: str, *, resolution: int | None = None, context: int | None = None
) -> Dataset:
    """Returns the dataset on the device: {split: {"input": uint8, "label": int32}}.

    The splits are those of `SPLITS`. Images are [N, height, width, channels], as stored
    (0..16 for digits, 0..255 for others), tables [N, columns], text [N, context + 1]
    without labels. Labels are [N]; float32 where they are numbers, not classes.
    Embedded sets are prepared on first use; nothing is ever downloaded. A set with
    more than `IN_MEMORY` bytes of inputs comes as a `Stream` of windows: evaluation
    moves through them, and meta-training refuses it.

    Args:
      name: one of `EMBEDDED`, or the TFDS name of a set prepared in array_record
        format, as `name` or `name/config`, below $TFDS_DATA_DIR or
        ~/tensorflow_datasets; or `module:attribute` of what `from_arrays` returned.
      resolution: height and width that images are averaged to, by area: any that is
        not above either of theirs; as stored by default.
      context: bytes that a model of text sees; needed for text.

    Raises:
      DatasetNotFound: if it is not on disk, at once.
      DatasetDamaged: if what is on disk cannot be read.
      ValueError: if the set is not of labelled images of one size, or of text; if it
        cannot be shaped so; or if a split would be empty.

    >>> {split: len(arrays["label"]) for split, arrays in load("digits").items()}
    {'train': 1197, 'inner_valid': 200, 'outer_valid': 200, 'test': 200}
    >>> load("digits", resolution=4)["test"]["input"].shape
    (200, 4, 4, 1)
    """
    if ":" in name:
        if resolution is not None or context is not None:
            raise ValueError(f"{name} is taken as it is: leave resolution and context.")
        try:
            return own.find(name)
        except ValueError as error:
            raise ValueError(f"{error} {misnamed(name)}") from error
    return _load(name, directory(), resolution, context)


def classes(dataset: Dataset) -> int:
    """Returns how many classes labels have: 0 if they are numbers, 256 for text."""
    if isinstance(dataset, Stream):
        return dataset.classes
    if "label" not in dataset["train"]:
        return 256
    labels = [np.asarray(arrays["label"]) for arrays in dataset.values()]
    return 0 if labels[0].dtype.kind == "f" else 1 + int(max(x.max() for x in labels))


def digest(name: str) -> str:
    """Returns the sha256 of all inputs of an embedded set, as recorded on disk.

    That of "stdlib" tells the library of one Python from another's.

    Raises:
      ValueError: for other sets, which record none.
    """
    if name not in EMBEDDED:
        raise ValueError(
            f"only embedded sets record a sha256, got {name!r}; "
            f"these are {', '.join(EMBEDDED)}."
        )
    from tasks.data import embedded

    return embedded.digest(name, located(name, directory()))


def moments(dataset: Dataset) -> tuple[float, float]:
    """Returns mean and standard deviation of all numbers of the training inputs."""
    pixels = np.asarray(dataset["train"]["input"])
    return float(pixels.mean()), float(pixels.std())


# Families of one dataset share its device arrays.
@functools.cache
def _load(
    name: str, root: pathlib.Path, resolution: int | None, context: int | None
) -> Dataset:
    """Returns the dataset `name` below `root` on the device."""
    path = located(name, root)
    with blaming(name, path):
        builder = _open(path)
        info = builder.info
    stored.check(info.features, name, resolution, context)
    size = stored.size(info)
    stored.check_splits(info, name, streams=size > IN_MEMORY)
    shaped = functools.partial(stored.shaped, resolution=resolution, context=context)
    with blaming(name, path):
        sources = stored.sources(builder)
        if size <= IN_MEMORY:
            splits = stored.whole(sources, shaped)
        else:
            mean_bytes = size // sum(map(len, sources.values()))
            splits, window = stored.windows(sources, shaped, mean_bytes=mean_bytes)
    stored.check_rows(splits, name, context)
    splits = {split: _on_device(arrays) for split, arrays in splits.items()}
    if size <= IN_MEMORY:
        return splits
    return Stream(
        splits,
        lambda number: _on_device(window(number)),
        stored.classes(info.features),
    )


def _open(path: pathlib.Path) -> Any:
    """Returns the TFDS builder of a prepared set."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(path)


def _on_device(arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns arrays of a split on the device."""
    # The cache must not keep tracers of a first call inside jit.
    with jax.ensure_compile_time_eval():
        return jax.tree.map(jnp.asarray, arrays)
