"""What prepared datasets hold, as NumPy arrays: all of it, or window by window."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.base import SPLITS

Arrays = dict[str, np.ndarray]  # {"input", "label"}, or only inputs
Features = Any  # maps names to features of TFDS, or to what one example holds
INPUTS = ("image", "text")  # their names
# Where each split is looked for; those that are nowhere are drawn from "train".
NAMES = {
    "train": ("train",),
    "test": ("test", "validation"),
    "inner_valid": ("inner_valid", "validation"),
    "outer_valid": ("outer_valid",),
}
SPLIT_SEED = 0  # draws them
WINDOW = 32 << 20  # bytes of examples that are read at a time of sets that stream


def sources(builder: Any) -> dict[str, Any]:
    """Returns the splits of a TFDS builder that are used, by their names in `SPLITS`.

    "validation" is the test split where there is none, else `inner_valid`.
    """
    stored, found = set(builder.info.splits or ("train", "test")), {}
    for split, names in NAMES.items():
        name = next((name for name in names if name in stored), None)
        if name is not None:
            stored.remove(name)
            found[split] = builder.as_data_source(name)
    return found


def size(builder: Any) -> int:
    """Returns bytes of all inputs: of images decoded, of text as stored."""
    splits = builder.info.splits.values()
    shape = builder.info.features[_input(builder.info.features)].shape
    if not shape or None in shape:
        return sum(split.num_bytes for split in splits)
    return math.prod(shape) * sum(split.num_examples for split in splits)


def whole(sources: Mapping[str, Any], shaped: Callable[..., Arrays]) -> dict:
    """Returns the four splits, each read whole.

    Args:
      sources: from `sources`.
      shaped: what `stack` returns -> arrays.
    """
    read = {s: stack(x.__getitems__(range(len(x)))) for s, x in sources.items()}
    return four_splits({split: shaped(columns) for split, columns in read.items()})


def windows(
    sources: Mapping[str, Any], shaped: Callable[..., Arrays], *, mean_bytes: int
) -> tuple[dict, Callable[[int], Arrays]]:
    """Returns the held-out splits, and number -> a window of the training split.

    Training examples come in an order of `SPLIT_SEED`, again after the last, as many
    at a time as `WINDOW` holds. A held-out split is at most as long. Windows have equal
    shapes: rows of text are left out, or come twice, that they do.

    Args:
      sources: from `sources`.
      shaped: what `stack` returns -> arrays.
      mean_bytes: of an example.
    """
    import grain

    count = max(1, WINDOW // mean_bytes)
    held = {split: grain.MapDataset.source(source) for split, source in sources.items()}
    train = held.pop("train").shuffle(seed=SPLIT_SEED)
    missing = [split for split in SPLITS[1:] if split not in held]
    tenth = min(count, len(train) // 10)
    for i, split in enumerate(missing):
        held[split] = train[i * tenth : (i + 1) * tenth]
    train = train[len(missing) * tenth :].repeat(reseed_each_epoch=False)
    batches = train.batch(count, batch_fn=stack)
    first = shaped(batches[0])

    def window(number: int) -> Arrays:
        arrays = first if number == 0 else shaped(batches[number])
        return {k: np.resize(v, first[k].shape) for k, v in arrays.items()}

    cut = {split: shaped(stack(list(held[split][:count]))) for split in SPLITS[1:]}
    return cut, window


def stack(examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns inputs and labels; of text only inputs, a list of byte arrays."""
    inputs = [example[_input(examples[0])] for example in examples]
    if is_text(examples[0]):
        return {"input": [np.frombuffer(text, np.uint8) for text in inputs]}
    labels = np.stack([example["label"] for example in examples])
    return {"input": np.stack(inputs), "label": labels}


def four_splits(stored: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """Returns the four of `SPLITS`, drawn from "train" where they are not stored.

    Each that is missing takes a tenth of the training split, by a permutation of
    `SPLIT_SEED`.
    """
    missing = [split for split in SPLITS[1:] if split not in stored]
    train = stored["train"]
    order = np.random.RandomState(SPLIT_SEED).permutation(len(train["input"]))
    tenth = len(order) // 10 if missing else 0
    parts = {split: order[i * tenth :][:tenth] for i, split in enumerate(missing)}
    parts["train"] = np.sort(order[len(missing) * tenth :])
    cut = {s: {k: v[part] for k, v in train.items()} for s, part in parts.items()}
    return {split: {**stored, **cut}[split] for split in SPLITS}


def check(
    features: Features, name: str, resolution: int | None, context: int | None
) -> None:
    """Raises ValueError unless a set has inputs, and these can be shaped so."""
    named = [kind for kind in INPUTS if kind in features]
    shape = features[named[0]].shape if named else ()
    text = is_text(features)
    if not text and not (named and "label" in features):
        raise ValueError(
            f"dataset {name!r} is neither of labelled images nor of text; it has "
            f"{', '.join(features)}."
        )
    if text and (context is None or resolution is not None):
        raise ValueError(f"dataset {name!r} is text: it takes context=, and no more.")
    if not text and (context or (resolution is not None and len(shape) != 3)):
        raise ValueError(f"dataset {name!r} has inputs of shape {shape}.")
    if resolution is not None and (shape[0] != shape[1] or shape[0] % resolution):
        raise ValueError(
            f"resolution must divide the height and width of square images, "
            f"got {resolution=} for {shape[:2]}."
        )


def is_text(features: Features) -> bool:
    """Returns whether they are of text: strings, or rows of bytes without labels."""
    return "text" in features or (
        "image" in features
        and "label" not in features
        and len(features["image"].shape) == 1
    )


def classes(features: Features) -> int:
    """Returns how many classes labels have: 0 if they are numbers, 256 for text."""
    return 256 if is_text(features) else getattr(features["label"], "num_classes", 0)


def shaped(
    columns: dict[str, Any], *, resolution: int | None, context: int | None
) -> Arrays:
    """Returns what `stack` did in small types, at a resolution or context."""
    inputs = columns["input"]
    if isinstance(inputs, list):
        return {"input": _rows(inputs, context)}
    if resolution is not None:
        inputs = _averaged(inputs, resolution)
    label = columns["label"]
    label = label.astype(np.float32 if label.dtype.kind == "f" else np.int32)
    return {"input": inputs.astype(np.uint8), "label": label}


def _input(features: Features) -> str:
    """Returns which of `INPUTS` there is."""
    (name,) = (name for name in INPUTS if name in features)
    return name


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
    block = images.shape[1] // resolution
    shape = (len(images), resolution, block, resolution, block, images.shape[-1])
    return np.round(images.reshape(shape).mean((2, 4)))
