"""Datasets as uint8 device arrays: embedded sets and TFDS sets behind one call."""

import contextlib
import difflib
import errno
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.data import own, stored

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
    "topics",
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
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
IN_MEMORY = 2 << 30  # bytes of inputs; of sets with more, windows stream


class DatasetNotFound(FileNotFoundError):
    """A dataset is not prepared on this disk."""


class DatasetDamaged(ValueError):
    """A prepared dataset cannot be read."""


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
    Embedded sets are prepared on first use; nothing is ever downloaded. Of a set with
    more than `IN_MEMORY` bytes of inputs, a `Stream` of windows is returned: evaluation
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
            raise ValueError(f"{error} {_misnamed(name)}") from error
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


def directory() -> pathlib.Path:
    """Returns where prepared datasets are: $TFDS_DATA_DIR or the default of TFDS.

    Raises:
      OSError: if that is in a home directory, and there is none.
    """
    root = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    expanded = os.path.expanduser(root)
    if expanded.startswith("~"):
        raise OSError(
            f"datasets are looked for in {root}, and there is no home directory; set "
            "TFDS_DATA_DIR to a directory for them."
        )
    return pathlib.Path(expanded).absolute()


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the directory of the newest prepared version of `name`, or None."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        return None
    versions = (root / name).glob("*.*.*")  # a name with `.incomplete` is not one
    versions = [v for v in versions if re.fullmatch(r"\d+\.\d+\.\d+", v.name)]
    return max(versions, key=lambda v: [*map(int, v.name.split("."))], default=None)


def located(name: str, root: pathlib.Path) -> pathlib.Path:
    """Returns where a set is that can be read; embedded ones are prepared.

    Of these, only what this code prepares will do, not the newest there is.

    Raises:
      as `load`.
    """
    if name in EMBEDDED:
        from tasks.data import embedded

        path = embedded.path(name, root)
        if not path.exists():
            with writable(root):
                embedded.prepare(name, root)
        _check_format(name, path)
        with _blaming(name, path):
            embedded.digest(name, path)
        return path
    check_name(name)
    path = find(name, root)
    if path is None:
        raise _not_found(name, root)
    _check_format(name, path)
    return path


@contextlib.contextmanager
def writable(root: pathlib.Path) -> Iterator[None]:
    """Raises OSError, with the cure, where the block cannot write below `root`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise OSError(
            f"datasets cannot be written to {root} ({error.strerror}); set "
            "TFDS_DATA_DIR to a directory that can be."
        ) from error


def check_name(name: str) -> None:
    """Raises ValueError for a name with a version, or a namespace."""
    if ":" in name or re.search(r"/\d+\.\d+\.\d+$", name):
        raise ValueError(_misnamed(name))


def _misnamed(name: str) -> str:
    return (
        "Prepared datasets are named `name` or `name/config`; the newest version on "
        f"disk is loaded; got {name!r}, with a version or namespace."
    )


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
    with _blaming(name, path):
        builder = _open(path)
        info = builder.info
    stored.check(info.features, name, resolution, context)
    size = stored.size(info)
    stored.check_splits(info, name, streams=size > IN_MEMORY)
    shaped = functools.partial(stored.shaped, resolution=resolution, context=context)
    with _blaming(name, path):
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
    # Of a first call inside jit, the cache must not keep tracers.
    with jax.ensure_compile_time_eval():
        return jax.tree.map(jnp.asarray, arrays)


@contextlib.contextmanager
def _blaming(name: str, path: pathlib.Path) -> Iterator[None]:
    """Turns whatever reading raises into `DatasetDamaged`, with the cure."""
    try:
        yield
    except Exception as error:
        raise DatasetDamaged(
            f"dataset {name!r} in {path} cannot be read: {error}. "
            f"Delete that directory and run `python -m tasks.data.prepare {name}`."
        ) from error


def _not_found(name: str, root: pathlib.Path) -> DatasetNotFound:
    """Returns the error for a set that is not on disk."""
    configs = [f"{name}/{path.name}" for path in sorted((root / name).glob("*"))]
    configs = [config for config in configs if find(config, root)]
    if configs:
        return DatasetNotFound(
            f"dataset {name!r} has configs, and is prepared in {root} as "
            f"{', '.join(configs)}; load one of these."
        )
    near = difflib.get_close_matches(name, FAMILIAR, 3)
    hint = f" Near matches: {', '.join(near)}." if near and name not in near else ""
    return DatasetNotFound(
        f"dataset {name!r} is not prepared in {root}; "
        f"run `python -m tasks.data.prepare {name}`, or set TFDS_DATA_DIR.{hint}"
    )


def _check_format(name: str, path: pathlib.Path) -> None:
    """Raises unless the set is described, and stored as array_record."""
    file = path / "dataset_info.json"
    try:
        stored = dict(json.loads(file.read_text(encoding="utf-8"))).get(
            "fileFormat", "tfrecord"
        )
    except (OSError, ValueError, TypeError) as error:
        raise DatasetDamaged(
            f"{file} cannot be read: {error}. "
            f"Delete {path} and run `python -m tasks.data.prepare {name}`."
        ) from error
    if stored != "array_record":
        raise DatasetNotFound(
            f"dataset {name!r} is in {path} as {stored}, which needs TensorFlow; "
            f"move it away and run `python -m tasks.data.prepare {name}`."
        )
