"""What prepared datasets hold, as NumPy arrays: all of it, or window by window."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
TENTHS = 10  # of "train", of which each that is missing takes one
AT_ONCE = 1 << 24  # bytes of images that are averaged at a time, in float64
WINDOW = 32 << 20  # bytes of examples that are read at a time of sets that stream


def sources(builder: Any) -> dict[str, Any]:
    """Returns the splits of a TFDS builder that are used, by their names in `SPLITS`.

    "validation" is the test split where there is none, else `inner_valid`.
    """
    names = _names(builder.info.splits or ("train", "test"))
    return {split: builder.as_data_source(name) for split, name in names.items()}


def size(info: Any) -> int:
    """Returns bytes of all inputs: of images decoded, of text as stored."""
    splits = info.splits.values()
    if is_text(info.features):
        return sum(split.num_bytes for split in splits)
    shape = info.features["image"].shape
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
    """Returns the four splits, and number -> a window of the training split.

    Training examples come in an order of `SPLIT_SEED`, again after the last, as many
    at a time as `WINDOW` holds; "train" is the first window, and a held-out split at
    most as long. Windows have equal shapes: rows of text are left out, or come twice,
    that they do.

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
    tenth = min(count, len(train) // TENTHS)
    for i, split in enumerate(missing):
        held[split] = train[i * tenth : (i + 1) * tenth]
    train = train[len(missing) * tenth :].repeat(reseed_each_epoch=False)
    batches = train.batch(count, batch_fn=stack)
    first = shaped(batches[0])

    def window(number: int) -> Arrays:
        arrays = first if number == 0 else shaped(batches[number])
        return {k: np.resize(v, first[k].shape) for k, v in arrays.items()}

    cut = {split: shaped(stack(list(held[split][:count]))) for split in SPLITS[1:]}
    return {"train": first, **cut}, window


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
    tenth = len(order) // TENTHS if missing else 0
    parts = {split: order[i * tenth :][:tenth] for i, split in enumerate(missing)}
    parts["train"] = np.sort(order[len(missing) * tenth :])
    cut = {s: {k: v[part] for k, v in train.items()} for s, part in parts.items()}
    return {split: {**stored, **cut}[split] for split in SPLITS}


def check(
    features: Features, name: str, resolution: int | None, context: int | None
) -> None:
    """Raises ValueError unless a set has inputs, and these can be shaped so."""
    _check_features(features, name)
    if any(n is not None and n < 1 for n in (resolution, context)):
        raise ValueError(
            f"resolution and context must be at least 1, got {resolution=} and "
            f"{context=}."
        )
    if is_text(features):
        if context is None or resolution is not None:
            raise ValueError(
                f"dataset {name!r} is text: it takes context=, and no more."
            )
        return
    shape = features["image"].shape
    if context is not None or (resolution is not None and len(shape) != 3):
        raise ValueError(f"dataset {name!r} has inputs of shape {shape}.")
    if resolution is not None and resolution > min(shape[:2]):
        raise ValueError(
            f"resolution must be at most the height and width of images, "
            f"got {resolution=} for {shape[:2]}."
        )


def check_splits(info: Any, name: str, *, streams: bool) -> None:
    """Raises ValueError unless a set has the examples, and classes, that are needed."""
    if "train" not in info.splits:
        raise ValueError(
            f"dataset {name!r} must have a split 'train', got {', '.join(info.splits)}."
        )
    used, count = _names(info.splits), info.splits["train"].num_examples
    missing = [split for split in SPLITS if split not in used]
    by_rows = is_text(info.features) and not streams
    if missing and count < TENTHS and not by_rows:
        raise ValueError(
            f"dataset {name!r} must have at least {TENTHS} examples in 'train', of "
            f"which {', '.join(missing)} take a tenth each, got {count}."
        )
    if streams and classes(info.features) is None:
        raise ValueError(f"dataset {name!r} must say how many classes it has.")


def check_rows(splits: Mapping[str, Arrays], name: str, context: int | None) -> None:
    """Raises ValueError if a split of a text has no row of a context."""
    empty = [split for split, arrays in splits.items() if not len(arrays["input"])]
    if empty:
        raise ValueError(
            f"context must leave each split of {name!r} a row, got {context=} and "
            f"none in {', '.join(empty)}."
        )


def is_text(features: Features) -> bool:
    """Returns whether they are of text: strings, or rows of bytes without labels."""
    return "text" in features or (
        "image" in features
        and "label" not in features
        and len(features["image"].shape) == 1
    )


def classes(features: Features) -> int | None:
    """Returns how many classes labels have: 0 if they are numbers, 256 for text.

    None where they are whole numbers and the set does not say of how many classes.
    """
    if is_text(features):
        return 256
    label = features["label"]
    if np.issubdtype(label.np_dtype, np.floating):
        return 0
    return getattr(label, "num_classes", None)


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


def _names(stored: Iterable[str]) -> dict[str, str]:
    """Returns the name under which each of `SPLITS` is stored, if it is."""
    left, found = set(stored), {}
    for split, names in NAMES.items():
        name = next((name for name in names if name in left), None)
        if name is not None:
            left.remove(name)
            found[split] = name
    return found


def _check_features(features: Features, name: str) -> None:
    """Raises ValueError unless they are of images with labels, or of text."""
    named = [kind for kind in INPUTS if kind in features]
    text = is_text(features)
    if len(named) != 1 or not (text or "label" in features):
        raise ValueError(
            f"dataset {name!r} is neither of labelled images nor of text; it has "
            f"{', '.join(sorted(features))}."
        )
    if text:
        return
    image, label = features["image"], features["label"]
    number = label.shape == () and np.issubdtype(label.np_dtype, np.number)
    if image.np_dtype != np.uint8 or not number:
        raise ValueError(
            f"dataset {name!r} must have images of uint8, each with one number for a "
            f"label, got {image} and {label}."
        )
    if None in image.shape:
        raise ValueError(
            f"dataset {name!r} has images of many sizes, {image.shape}; "
            f"only sets of images of one size can be loaded."
        )


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
    """Returns images at a lower resolution, each pixel the mean of the area it covers.

    Areas are counted in whole numbers and divided once, so that where blocks fit, their
    mean comes out, to the last bit.
    """
    height, width = images.shape[1:3]
    rows, columns = _overlaps(height, resolution), _overlaps(width, resolution)

    def mean(part: np.ndarray) -> np.ndarray:
        sums = np.einsum("ih,nhwc,jw->nijc", rows, part, columns, optimize=True)
        return np.round(sums / (height * width)).astype(np.uint8)

    parts = np.array_split(images, 1 + images.size // AT_ONCE)
    return np.concatenate([mean(part) for part in parts])


def _overlaps(size: int, count: int) -> np.ndarray:
    """Returns how much of each of `size` pixels each of `count` covers, in 1/count."""
    coarse, fine = size * np.arange(count + 1)[:, None], count * np.arange(size + 1)
    shared = np.minimum(coarse[1:], fine[1:]) - np.maximum(coarse[:-1], fine[:-1])
    return np.maximum(shared, 0.0)
