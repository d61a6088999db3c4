"""Real data that come with scikit-learn and Python, as TFDS datasets.

Only `data` imports this.
"""

import contextlib
import hashlib
import io
import json
import pathlib
import sysconfig
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tasks.base import SPLITS

SPLIT_SEED = 0
HELD_OUT = 1 / 9  # of all examples, in each split but "train"


class _Embedded(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the sets have in common: arrays of examples, split by `SPLIT_SEED`."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent
    SHAPE: tuple[int | None, ...]
    CLASSES: int | None = None  # None for numbers, 0 without labels
    SHA256: str | None  # of all inputs; None where they differ from Python to Python
    held_out: float | int = HELD_OUT

    def __init_subclass__(cls) -> None:
        """Keeps each out of the registry of TFDS, which has an "iris" of its own."""
        super().__init_subclass__(skip_registration=True)

    def arrays(self) -> tuple[Any, Any]:
        """Returns inputs and labels of all examples."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        """Returns the explicit description that a builder in a plain module needs."""
        features = {"image": tfds.features.Tensor(shape=self.SHAPE, dtype=np.uint8)}
        if self.CLASSES:
            features["label"] = tfds.features.ClassLabel(num_classes=self.CLASSES)
        elif self.CLASSES is None:
            features["label"] = tfds.features.Scalar(dtype=np.float32)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__class__.__doc__,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(split_seed=SPLIT_SEED),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """Returns the examples of each split, drawn by `SPLIT_SEED`."""
        inputs, labels = self.arrays()
        digest = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in inputs))
        self.info.metadata["sha256"] = digest.hexdigest()
        if self.SHA256 not in (None, digest.hexdigest()):
            raise ValueError(
                f"{self.name!r} must have sha256 {self.SHA256}, got "
                f"{digest.hexdigest()}; install the versions of requirements.lock."
            )
        # RandomState is frozen by NumPy's policy; a Generator's streams may change.
        order = np.random.RandomState(SPLIT_SEED).permutation(len(inputs))
        held = self.held_out
        held = held if isinstance(held, int) else max(1, int(held * len(order)))
        starts = len(order) - held * np.arange(len(SPLITS) - 1, 0, -1)
        return {
            split: self._generate_examples(inputs, labels, part)
            for split, part in zip(SPLITS, np.split(order, starts), strict=True)
        }

    def _generate_examples(
        self, inputs: Any, labels: Any, part: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields (key, example) in order."""
        for key, index in enumerate(part):
            example = {"image": np.asarray(inputs[index], np.uint8)}
            if self.CLASSES != 0:
                example["label"] = labels[index]
            yield key, example


class Digits(_Embedded):
    """1,797 handwritten digits of 8x8 pixels in 0..16, embedded in scikit-learn."""

    SHAPE, CLASSES, held_out = (8, 8, 1), 10, 200
    SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"

    def arrays(self) -> tuple[Any, Any]:
        """Returns images and labels."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return images.astype(np.uint8).reshape(-1, 8, 8, 1), labels.tolist()


class Patches8(_Embedded):
    """8,480 patches of 8x8 pixels of scikit-learn's two photographs, and of which."""

    SHAPE, CLASSES = (8, 8, 3), 2
    SHA256 = "dd2b78c6bce2481f7a2744259afcf0209f0ee50def0cdae4f253f63c8ba26a2b"

    def arrays(self) -> tuple[Any, Any]:
        """Returns patches that do not overlap, and the number of the photograph."""
        return _patches(self.SHAPE[0])


class Patches16(_Embedded):
    """2,080 patches of 16x16 pixels of scikit-learn's two photographs."""

    SHAPE, CLASSES = (16, 16, 3), 2
    SHA256 = "d8a301c1100bb721a43845f77b6933377b8efd915ba9dd8fc515f75d32f33960"

    def arrays(self) -> tuple[Any, Any]:
        """Returns patches that do not overlap, and the number of the photograph."""
        return _patches(self.SHAPE[0])


class BreastCancer(_Embedded):
    """569 tumours with 30 measurements, each scaled to 0..255; from scikit-learn."""

    SHAPE, CLASSES = (30,), 2
    SHA256 = "bace63861ccb9854bb16843d9dfe39f4e0a8f632858b59020142d82d50d90f68"

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and diagnoses."""
        return _table("load_breast_cancer")


class Wine(_Embedded):
    """178 wines with 13 measurements, each scaled to 0..255; from scikit-learn."""

    SHAPE, CLASSES = (13,), 3
    SHA256 = "b7c105d24d276e44b0a25f6db43a203f3b0fbc2bfbedaffc0819ba489c27d4d2"

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and cultivars."""
        return _table("load_wine")


class Iris(_Embedded):
    """150 irises with 4 measurements, each scaled to 0..255; from scikit-learn."""

    SHAPE, CLASSES = (4,), 3
    SHA256 = "e48f2c5b3c087df0ce8f88a88714be273d2021eb7881dc00171073442e4fc43a"

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and species."""
        return _table("load_iris")


class Diabetes(_Embedded):
    """442 patients with 10 measurements, scaled to 0..255, and the disease's progress,
    a number in 25..346; from scikit-learn."""

    SHAPE = (10,)
    SHA256 = "7898ff1abccc0584e57f84970c5dac10438f8aa81501330d083afdbb0fe01e36"

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and progress."""
        return _table("load_diabetes")


class Stdlib(_Embedded):
    """The top-level modules of Python's own standard library, a file an example."""

    SHAPE, CLASSES = (None,), 0
    SHA256 = None

    def arrays(self) -> tuple[Any, Any]:
        """Returns the bytes of each file; they differ from Python to Python."""
        files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
        return [np.frombuffer(f.read_bytes(), np.uint8) for f in files], []


class Topics(_Embedded):
    """The language reference that Python's `help` prints, a topic an example."""

    SHAPE, CLASSES = (None,), 0
    SHA256 = None

    def arrays(self) -> tuple[Any, Any]:
        """Returns the bytes of each topic; they differ from Python to Python."""
        from pydoc_data.topics import topics

        texts = [topics[name].encode() for name in sorted(topics)]
        return [np.frombuffer(text, np.uint8) for text in texts], []


SETS = {
    "digits": Digits,
    "patches8": Patches8,
    "patches16": Patches16,
    "breast_cancer": BreastCancer,
    "wine": Wine,
    "iris": Iris,
    "diabetes": Diabetes,
    "stdlib": Stdlib,
    "topics": Topics,
}


def path(name: str, root: pathlib.Path) -> pathlib.Path:
    """Returns where a set of `SETS` is, or will be, below `root`."""
    return root / name / str(SETS[name].VERSION)


def digest(name: str, path: pathlib.Path) -> str:
    """Returns the sha256 of all inputs, as recorded when the set was prepared.

    Raises:
      ValueError: if none is recorded, or that of other inputs.
    """
    found = json.loads((path / "metadata.json").read_text(encoding="utf-8")).get(
        "sha256"
    )
    expected = SETS[name].SHA256 or found
    if found is None or found != expected:
        raise ValueError(f"it must record sha256 {expected}, got {found}")
    return found


def prepare(name: str, root: pathlib.Path) -> None:
    """Writes a set of `SETS` below `root`, unless it is there, in seconds.

    TFDS writes beside the final directory and renames it, so that a killed process
    leaves nothing half done; of two processes at once, the slower finds the faster's.
    """
    builder = SETS[name](data_dir=root, file_format="array_record")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            builder.download_and_prepare(download_config=config)
    except OSError:
        if not (path(name, root) / "dataset_info.json").exists():
            raise


def _patches(size: int) -> tuple[np.ndarray, list[int]]:
    """Returns patches [n, size, size, 3] and the number of each one's photograph."""
    from sklearn.datasets import load_sample_images

    found = []
    for photograph in load_sample_images().images:
        rows, columns = (n // size for n in photograph.shape[:2])
        cut = photograph[: rows * size, : columns * size]
        grid = cut.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
        found.append(grid.reshape(-1, size, size, 3))
    labels = [i for i, patches in enumerate(found) for _ in patches]
    return np.concatenate(found), labels


def _table(loader: str) -> tuple[np.ndarray, list[Any]]:
    """Returns columns scaled to 0..255 each, and labels, of a set of scikit-learn."""
    from sklearn import datasets

    columns, labels = getattr(datasets, loader)(return_X_y=True)
    low, high = columns.min(0)[None], columns.max(0)[None]
    return np.round(255 * (columns - low) / (high - low)), labels.tolist()
