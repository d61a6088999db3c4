"""TFDS's own descriptions of well-known sets, with mocked data."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tasks.data import stored

SIZE = 8  # examples


class Source(list):
    """Examples, as TFDS's data sources give them."""

    def __getitems__(self, keys):
        return [self[key] for key in keys]


def examples(builder, split, **given):
    """Returns made-up examples with the features of a set."""
    made = np.random.RandomState(len(split))

    def one(name, feature):
        if name == "text":
            return bytes(made.randint(97, 123, 400).astype(np.uint8))
        high = getattr(feature, "num_classes", 256)
        return made.randint(0, high, feature.shape).astype(feature.np_dtype)

    features = builder.info.features
    return Source({n: one(n, f) for n, f in features.items()} for _ in range(SIZE))


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("mnist", (14, 14, 1), 10),
        ("fashion_mnist", (14, 14, 1), 10),
        ("cifar10", (14, 14, 3), 10),
        ("cifar100", (14, 14, 3), 100),
        ("svhn_cropped", (14, 14, 3), 10),
        ("imagenet_resized/32x32", (14, 14, 3), 1000),
        ("lm1b", (17,), 256),
        ("tiny_shakespeare", (17,), 256),
    ],
)
def test_mocked_sets_are_read_by_the_same_code(tmp_path, name, shape, classes):
    with tfds.testing.mock_data(as_data_source_fn=examples):
        builder = tfds.builder(name, data_dir=tmp_path)
        features = builder.info.features
        text = stored.is_text(features)
        wanted = {"resolution": None if text else 14, "context": 16 if text else None}
        stored.check(features, name, **wanted)
        source = stored.sources(builder)["train"]
        columns = stored.stack(source.__getitems__(range(SIZE)))
    arrays = stored.shaped(columns, **wanted)
    assert arrays["input"].shape[1:] == shape and arrays["input"].dtype == np.uint8
    assert stored.classes(features) == classes
    assert text or arrays["label"].shape == (SIZE,)
