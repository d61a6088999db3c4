"""Scikit-learn's digits as a TFDS dataset; only `data` and `prepare` import this."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tasks.base import SPLITS

SPLIT_SEED = 0
HELD_OUT = 200  # images in each split but "train", which keeps the other 1,197


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8x8 pixels in 0..16, embedded in scikit-learn."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self) -> tfds.core.DatasetInfo:
        """Returns the explicit description that a builder in a plain module needs."""
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__class__.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            homepage="https://archive.ics.uci.edu/dataset/80",
            metadata=tfds.core.MetadataDict(split_seed=SPLIT_SEED),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """Returns the examples of each split, drawn by `SPLIT_SEED`."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        # RandomState is frozen by NumPy's policy; a Generator's streams may change.
        order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
        starts = len(order) - HELD_OUT * np.arange(len(SPLITS) - 1, 0, -1)
        parts = np.split(order, starts)
        return {
            split: self._generate_examples(images[part], labels[part])
            for split, part in zip(SPLITS, parts, strict=True)
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields (key, example) in order."""
        images = images.astype(np.uint8).reshape(-1, 8, 8, 1)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image, "label": int(label)}


def prepare(root: pathlib.Path) -> None:
    """Writes digits below `root`, unless they are there, in about a second.

    TFDS writes beside the final directory and renames it, so that a killed process
    leaves nothing half done; of two processes at once, the slower finds the faster's.
    """
    builder = Digits(data_dir=root, file_format="array_record")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            builder.download_and_prepare(download_config=config)
    except OSError:
        if not (pathlib.Path(builder.data_dir) / "dataset_info.json").exists():
            raise
