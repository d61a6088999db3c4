"""Datasets as uint8 device arrays: embedded sets and TFDS sets behind one call."""

import difflib
import functools
import json
import os
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import SPLITS

Dataset = dict[str, dict[str, Any]]  # {split: {"image", "label"}}

EMBEDDED = ("digits",)
# Offered as near matches; any TFDS set with `image` and `label` can be loaded.
FAMILIAR = (
    *EMBEDDED,
    "cifar10",
    "cifar100",
    "emnist",
    "fashion_mnist",
    "imagenet_resized/32x32",
    "kmnist",
    "mnist",
    "svhn_cropped",
)
SPLIT_SEED = 0  # draws validation splits from the training split of sets of others


class DatasetNotFound(FileNotFoundError):
    """A dataset is not prepared on this disk."""


class DatasetDamaged(ValueError):
    """A prepared dataset cannot be read."""


def load(name: str) -> Dataset:
    """Returns the dataset on the device: {split: {"image": uint8, "label": int32}}.

    The splits are those of `SPLITS`; images are [N, height, width, channels], as
    stored (0..16 for digits, 0..255 for most), labels [N]. Digits are prepared on
    first use; nothing is ever downloaded.

    Args:
      name: "digits", or the TFDS name of a set prepared in array_record format, as
        `name` or `name/config`, below $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
      DatasetNotFound: if it is not on disk, at once.
      DatasetDamaged: if what is on disk cannot be read.

    >>> {split: len(arrays["label"]) for split, arrays in load("digits").items()}
    {'train': 1197, 'inner_valid': 200, 'outer_valid': 200, 'test': 200}
    """
    return _load(name, directory())


def directory() -> pathlib.Path:
    """Returns where prepared datasets are: $TFDS_DATA_DIR or the default of TFDS."""
    root = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(root).expanduser().absolute()


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the directory of the newest prepared version of `name`, or None."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        return None
    versions = (root / name).glob("*.*.*")  # a name with `.incomplete` is not one
    versions = [v for v in versions if re.fullmatch(r"\d+\.\d+\.\d+", v.name)]
    return max(versions, key=lambda v: [*map(int, v.name.split("."))], default=None)


def moments(dataset: Dataset) -> tuple[float, float]:
    """Returns mean and standard deviation of all pixels of the training split."""
    pixels = np.asarray(dataset["train"]["image"])
    return float(pixels.mean()), float(pixels.std())


# Families of one dataset share its device arrays.
@functools.cache
def _load(name: str, root: pathlib.Path) -> Dataset:
    """Returns the dataset `name` below `root` on the device."""
    path = find(name, root)
    if path is None and name in EMBEDDED:
        from tasks import digits

        digits.prepare(root)
        path = find(name, root)
    if path is None:
        raise _not_found(name, root)
    _check_format(name, path)
    try:
        splits = four_splits(_read_all(path))
    except Exception as error:
        raise DatasetDamaged(
            f"dataset {name!r} in {path} cannot be read: {error}. "
            f"Delete that directory and run `python -m tasks.prepare {name}`."
        ) from error
    types = {"image": jnp.uint8, "label": jnp.int32}
    # Of a first call inside jit, the cache must not keep tracers.
    with jax.ensure_compile_time_eval():
        return {
            split: {key: jnp.asarray(arrays[key], types[key]) for key in types}
            for split, arrays in splits.items()
        }


def _not_found(name: str, root: pathlib.Path) -> DatasetNotFound:
    """Returns the error for a set that is not on disk."""
    near = difflib.get_close_matches(name, FAMILIAR, 3)
    hint = f" Near matches: {', '.join(near)}." if near and name not in near else ""
    return DatasetNotFound(
        f"dataset {name!r} is not prepared in {root}; "
        f"run `python -m tasks.prepare {name}`, or set TFDS_DATA_DIR.{hint}"
    )


def _check_format(name: str, path: pathlib.Path) -> None:
    """Raises unless the set is described, and stored as array_record."""
    file = path / "dataset_info.json"
    try:
        stored = json.loads(file.read_text()).get("fileFormat", "tfrecord")
    except (OSError, ValueError) as error:
        raise DatasetDamaged(
            f"{file} cannot be read: {error}. "
            f"Delete {path} and run `python -m tasks.prepare {name}`."
        ) from error
    if stored != "array_record":
        raise DatasetNotFound(
            f"dataset {name!r} is in {path} as {stored}, which needs TensorFlow; "
            f"move it away and run `python -m tasks.prepare {name}`."
        )


def _read_all(path: pathlib.Path) -> Dataset:
    """Returns the splits as stored, as NumPy arrays."""
    import tensorflow_datasets as tfds

    return read(tfds.builder_from_directory(path))


def read(builder: Any) -> Dataset:
    """Returns all splits of a TFDS builder, {split: {"image", "label"}}, in NumPy."""
    return {
        split: _stack(builder.as_data_source(split))
        for split in (builder.info.splits or ("train", "test"))
    }


def _stack(source: Any) -> dict[str, np.ndarray]:
    """Returns the images [N, h, w, c] and labels [N] of a TFDS data source."""
    examples = source.__getitems__(range(len(source)))
    return {
        key: np.stack([example[key] for example in examples])
        for key in ("image", "label")
    }


def four_splits(stored: Dataset) -> Dataset:
    """Returns the four of `SPLITS`, drawn from "train" where they are not stored.

    Each of `inner_valid`, `outer_valid`, and of `test` where there is none, takes a
    tenth of the training split, by a permutation of `SPLIT_SEED`.
    """
    missing = [split for split in SPLITS[1:] if split not in stored]
    train = stored["train"]
    order = np.random.RandomState(SPLIT_SEED).permutation(len(train["label"]))
    tenth = len(order) // 10 if missing else 0
    parts = {split: order[i * tenth :][:tenth] for i, split in enumerate(missing)}
    parts["train"] = np.sort(order[len(missing) * tenth :])
    cut = {s: {k: v[part] for k, v in train.items()} for s, part in parts.items()}
    return {split: {**stored, **cut}[split] for split in SPLITS}
