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

Dataset = dict[str, dict[str, Any]]  # {split: {"input", "label"}}, or only inputs

EMBEDDED = (
    "digits",
    "patches8",
    "patches16",
    "breast_cancer",
    "wine",
    "iris",
    "diabetes",
    "stdlib",
)
# Offered as near matches; any TFDS set of images or text can be loaded.
FAMILIAR = (
    *EMBEDDED,
    "cifar10",
    "cifar100",
    "emnist",
    "fashion_mnist",
    "imagenet_resized/32x32",
    "kmnist",
    "lm1b",
    "mnist",
    "svhn_cropped",
    "tiny_shakespeare",
)
INPUTS = ("image", "text")  # what TFDS calls them
SPLIT_SEED = 0  # draws validation splits from the training split of sets of others


class DatasetNotFound(FileNotFoundError):
    """A dataset is not prepared on this disk."""


class DatasetDamaged(ValueError):
    """A prepared dataset cannot be read."""


def load(
    name: str, *, resolution: int | None = None, context: int | None = None
) -> Dataset:
    """Returns the dataset on the device: {split: {"input": uint8, "label": int32}}.

    The splits are those of `SPLITS`. Images are [N, height, width, channels], as stored
    (0..16 for digits, 0..255 for others), tables [N, columns], text [N, context + 1]
    without labels. Labels are [N]; float32 where they are numbers, not classes.
    Embedded sets are prepared on first use; nothing is ever downloaded.

    Args:
      name: one of `EMBEDDED`, or the TFDS name of a set prepared in array_record
        format, as `name` or `name/config`, below $TFDS_DATA_DIR or
        ~/tensorflow_datasets.
      resolution: height and width that images are averaged to; as stored by default.
      context: bytes that a model of text sees; needed for text.

    Raises:
      DatasetNotFound: if it is not on disk, at once.
      DatasetDamaged: if what is on disk cannot be read.
      ValueError: if the set is not of images, or of text, where it must be.

    >>> {split: len(arrays["label"]) for split, arrays in load("digits").items()}
    {'train': 1197, 'inner_valid': 200, 'outer_valid': 200, 'test': 200}
    >>> load("digits", resolution=4)["test"]["input"].shape
    (200, 4, 4, 1)
    """
    return _load(name, directory(), resolution, context)


def classes(dataset: Dataset) -> int:
    """Returns how many classes labels have: 0 if they are numbers, 256 for text."""
    if "label" not in dataset["train"]:
        return 256
    label = np.asarray(dataset["train"]["label"])
    return 0 if label.dtype.kind == "f" else 1 + int(label.max())


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
    """Returns mean and standard deviation of all numbers of the training inputs."""
    pixels = np.asarray(dataset["train"]["input"])
    return float(pixels.mean()), float(pixels.std())


# Families of one dataset share its device arrays.
@functools.cache
def _load(
    name: str, root: pathlib.Path, resolution: int | None, context: int | None
) -> Dataset:
    """Returns the dataset `name` below `root` on the device."""
    path = find(name, root)
    if path is None and name in EMBEDDED:
        from tasks import embedded

        embedded.prepare(name, root)
        path = find(name, root)
    if path is None:
        raise _not_found(name, root)
    _check_format(name, path)
    try:
        stored = _read_all(path)
    except Exception as error:
        raise DatasetDamaged(
            f"dataset {name!r} in {path} cannot be read: {error}. "
            f"Delete that directory and run `python -m tasks.prepare {name}`."
        ) from error
    shaped = {s: _shaped(x, name, resolution, context) for s, x in stored.items()}
    splits = four_splits(shaped)
    # Of a first call inside jit, the cache must not keep tracers.
    with jax.ensure_compile_time_eval():
        return {
            split: {key: jnp.asarray(array) for key, array in arrays.items()}
            for split, arrays in splits.items()
        }


def _shaped(
    split: dict[str, Any], name: str, resolution: int | None, context: int | None
) -> dict[str, np.ndarray]:
    """Returns a split as arrays of small types, at a resolution or cut to contexts."""
    inputs = split["input"]
    if isinstance(inputs, list):
        if context is None or resolution is not None:
            raise ValueError(
                f"dataset {name!r} is text: it takes context=, and no more."
            )
        return {"input": _rows(inputs, context)}
    if context is not None or (resolution is not None and inputs.ndim != 4):
        raise ValueError(f"dataset {name!r} has inputs of shape {inputs.shape[1:]}.")
    if resolution is not None:
        inputs = _averaged(inputs, resolution)
    label = split["label"]
    label = label.astype(np.float32 if label.dtype.kind == "f" else np.int32)
    return {"input": inputs.astype(np.uint8), "label": label}


def _rows(texts: list[np.ndarray], context: int) -> np.ndarray:
    """Returns the bytes of texts, joined by line feeds, as rows of context + 1.

    Each row begins with the last byte of the one before, so that every byte but the
    first is to be predicted once.
    """
    line_feed = np.array([10], np.uint8)
    flat = np.concatenate([part for text in texts for part in (text, line_feed)])
    count = (len(flat) - 1) // context
    starts = context * np.arange(count)[:, None]
    return flat[starts + np.arange(context + 1)[None]]


def _averaged(images: np.ndarray, resolution: int) -> np.ndarray:
    """Returns square images at a lower resolution, each pixel the mean of a block."""
    size = images.shape[1]
    if images.shape[2] != size or size % resolution:
        raise ValueError(
            f"resolution must divide the height and width of square images, "
            f"got {resolution=} for {images.shape[1:3]}."
        )
    block = size // resolution
    shape = (len(images), resolution, block, resolution, block, images.shape[-1])
    return np.round(images.reshape(shape).mean((2, 4)))


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
    """Returns all splits of a TFDS builder, in NumPy; text is a list of byte arrays."""
    return {
        split: _stack(builder.as_data_source(split))
        for split in (builder.info.splits or ("train", "test"))
    }


def _stack(source: Any) -> dict[str, Any]:
    """Returns inputs and labels, if there are any, of a TFDS data source."""
    examples = source.__getitems__(range(len(source)))
    (name,) = (key for key in INPUTS if key in examples[0])
    inputs = [example[name] for example in examples]
    if isinstance(inputs[0], bytes):
        inputs = [np.frombuffer(text, np.uint8) for text in inputs]
    if "label" not in examples[0]:
        return {"input": inputs}
    labels = np.stack([example["label"] for example in examples])
    return {"input": np.stack(inputs), "label": labels}


def four_splits(stored: Dataset) -> Dataset:
    """Returns the four of `SPLITS`, drawn from "train" where they are not stored.

    Each of `inner_valid`, `outer_valid`, and of `test` where there is none, takes a
    tenth of the training split, by a permutation of `SPLIT_SEED`.
    """
    missing = [split for split in SPLITS[1:] if split not in stored]
    train = stored["train"]
    order = np.random.RandomState(SPLIT_SEED).permutation(len(train["input"]))
    tenth = len(order) // 10 if missing else 0
    parts = {split: order[i * tenth :][:tenth] for i, split in enumerate(missing)}
    parts["train"] = np.sort(order[len(missing) * tenth :])
    cut = {s: {k: v[part] for k, v in train.items()} for s, part in parts.items()}
    return {split: {**stored, **cut}[split] for split in SPLITS}
