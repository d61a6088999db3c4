"""Where prepared datasets are on this disk, and what is said of those that are not."""

import contextlib
import difflib
import errno
import json
import os
import pathlib
import re
from collections.abc import Iterator

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


class DatasetNotFound(FileNotFoundError):
    """A dataset is not prepared on this disk."""


class DatasetDamaged(ValueError):
    """A prepared dataset cannot be read."""


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

    These must be what this code prepares, not the newest there is.

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
        with blaming(name, path):
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
        raise ValueError(misnamed(name))


def misnamed(name: str) -> str:
    """Returns how prepared datasets are named."""
    return (
        "Prepared datasets are named `name` or `name/config`; the newest version on "
        f"disk is loaded; got {name!r}, with a version or namespace."
    )


@contextlib.contextmanager
def blaming(name: str, path: pathlib.Path) -> Iterator[None]:
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
