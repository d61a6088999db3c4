"""Real data that come with scikit-learn and Python, as TFDS datasets.

Only `data` and `prepare` import this. The classes are at module level because TFDS
registers each by its name, once.
"""

import contextlib
import hashlib
import io
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
    held_out: float | int = HELD_OUT

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

    def arrays(self) -> tuple[Any, Any]:
        """Returns images and labels."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return images.astype(np.uint8).reshape(-1, 8, 8, 1), labels.tolist()


class Patches8(_Embedded):
    """8,480 patches of 8x8 pixels of scikit-learn's two photographs, and of which."""

    SHAPE, CLASSES = (8, 8, 3), 2

    def arrays(self) -> tuple[Any, Any]:
        """Returns patches that do not overlap, and the number of the photograph."""
        return _patches(self.SHAPE[0])


class Patches16(_Embedded):
    """2,080 patches of 16x16 pixels of scikit-learn's two photographs."""

    SHAPE, CLASSES = (16, 16, 3), 2

    def arrays(self) -> tuple[Any, Any]:
        """Returns patches that do not overlap, and the number of the photograph."""
        return _patches(self.SHAPE[0])


class BreastCancer(_Embedded):
    """569 tumours with 30 measurements, each scaled to 0..255; from scikit-learn."""

    SHAPE, CLASSES = (30,), 2

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and diagnoses."""
        return _table("load_breast_cancer")


class Wine(_Embedded):
    """178 wines with 13 measurements, each scaled to 0..255; from scikit-learn."""

    SHAPE, CLASSES = (13,), 3

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and cultivars."""
        return _table("load_wine")


class Iris(_Embedded):
    """150 irises with 4 measurements, each scaled to 0..255; from scikit-learn."""

    SHAPE, CLASSES = (4,), 3

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and species."""
        return _table("load_iris")


class Diabetes(_Embedded):
    """442 patients with 10 measurements, scaled to 0..255, and the disease's progress,
    a number in 25..346; from scikit-learn."""

    SHAPE = (10,)

    def arrays(self) -> tuple[Any, Any]:
        """Returns measurements and progress."""
        return _table("load_diabetes")


class Stdlib(_Embedded):
    """The top-level modules of Python's own standard library, a file an example."""

    SHAPE, CLASSES = (None,), 0

    def arrays(self) -> tuple[Any, Any]:
        """Returns the bytes of each file; they differ from Python to Python."""
        files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
        return [np.frombuffer(f.read_bytes(), np.uint8) for f in files], []


SETS = {
    "digits": Digits,
    "patches8": Patches8,
    "patches16": Patches16,
    "breast_cancer": BreastCancer,
    "wine": Wine,
    "iris": Iris,
    "diabetes": Diabetes,
    "stdlib": Stdlib,
}


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
        if not (pathlib.Path(builder.data_dir) / "dataset_info.json").exists():
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
