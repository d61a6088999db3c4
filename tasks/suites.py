"""Suites: frozen lists of tasks, with their lengths.

A suite never changes; what is mended gets a new version. `python -m tasks` prints them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from common import names
from tasks import base, families
from tasks.base import TaskFamily
from tasks.entries import (
    AUTOENCODER,
    BAG,
    CONV,
    COORDINATES,
    DIGITS_MLP,
    MIXER,
    QUADRATIC,
    RECURRENT,
    REGRESSION,
    RESNET,
    STANDARD,
    SURFACE,
    TEACHER,
    TRANSFORMER,
    UNSEEN,
    VAE,
    VIT,
    Entry,
)
from tasks.mixtures import TRAIN_STANDARD, TRAIN_V1, TRAIN_V2, VALID_STANDARD, VALID_V1
from tasks.wrappers import augmentations


class Line(NamedTuple):
    """Tasks that grow from one, by factors of one argument or of the steps.

    Attributes:
      family: name in `FAMILIES`.
      args: of the task they grow from.
      axis: the argument that grows, or "steps".
      factors: whole numbers.
      num_steps: updates of a run before they grow.
    """

    family: str
    args: Mapping[str, Any]
    axis: str
    factors: tuple[int, ...]
    num_steps: int = 200

    def entries(self, factors: tuple[int, ...] | None = None) -> dict[str, Entry]:
        """Returns the tasks, by name."""
        found = {}
        for n in factors or self.factors:
            args, steps = self.args, self.num_steps
            if self.axis == "steps":
                steps = n * steps
            else:
                args = {**args, self.axis: n * args[self.axis]}
            found[f"{self.family}-{self.axis}x{n}"] = Entry(self.family, args, steps)
        return found


class Growth(NamedTuple):
    """How a task of a suite came from another.

    Attributes:
      line: family and axis.
      factor: by which the axis has grown.
      base: name of the task at factor 1.
    """

    line: str
    factor: int
    base: str


LINES: dict[str, tuple[Line, ...]] = {
    "wider-v1": (
        Line("mlp", DIGITS_MLP, "width", (2, 8, 32, 64)),
        Line("conv", CONV, "width", (2, 8)),
        Line("transformer", TRANSFORMER, "width", (2, 8)),
    ),
    "deeper-v1": (
        Line("mlp", DIGITS_MLP, "depth", (2, 4, 8, 16)),
        Line("transformer", TRANSFORMER, "depth", (2, 8)),
        Line("recurrent", RECURRENT, "depth", (2,)),
    ),
    "longer-v1": (
        Line("mlp", DIGITS_MLP, "steps", (5, 25)),
        Line("transformer", TRANSFORMER, "steps", (5, 25)),
        Line("teacher_student", TEACHER, "steps", (5, 25)),
    ),
}


SUITES: dict[str, dict[str, Entry]] = {
    # What rules are meta-trained on: small, cheap, and varied from draw to draw.
    "train-v1": TRAIN_V1,
    "train-v2": TRAIN_V2,
    # Those, and networks as users make them.
    "train-v3": TRAIN_V2 | TRAIN_STANDARD,
    # What rules are chosen by.
    "valid-v1": VALID_V1,
    "valid-v2": VALID_V1 | VALID_STANDARD,
    # The same, without what varies.
    "in-dist-v1": {
        "mlp-digits": Entry("mlp", DIGITS_MLP, 200),
        "softmax_regression-breast_cancer": Entry(
            "softmax_regression", REGRESSION, 200
        ),
        "conv-digits": Entry("conv", CONV, 200),
        "autoencoder-digits": Entry("autoencoder", AUTOENCODER, 200),
        "recurrent-stdlib": Entry("recurrent", RECURRENT, 200),
        "transformer-stdlib": Entry("transformer", TRANSFORMER, 200),
        "teacher_student": Entry("teacher_student", TEACHER, 200),
        "quadratic": Entry("quadratic", QUADRATIC, 200),
    },
    **{
        name: {task: entry for line in lines for task, entry in line.entries().items()}
        for name, lines in LINES.items()
    },
    # No family or set of train-v1 is here.
    "transfer-v1": {
        "resnet-patches16": Entry("resnet", RESNET | {"dataset": "patches16"}, 1_000),
        "vit-patches8": Entry("vit", VIT | UNSEEN | {"width": 32, "depth": 2}, 1_000),
        "mixer-patches8": Entry(
            "mixer", MIXER | UNSEEN | {"width": 32, "depth": 2}, 1_000
        ),
        "lstm-topics": Entry(
            "recurrent",
            RECURRENT
            | {"dataset": "topics", "cell": "lstm", "width": 64, "context": 32},
            1_000,
        ),
        "vae-patches8": Entry("vae", VAE | UNSEEN | {"width": 64}, 1_000),
        "rosenbrock": Entry("surface", SURFACE, 1_000),
        "rastrigin": Entry(
            "surface", SURFACE | {"function": "rastrigin", "dimension": 10}, 1_000
        ),
    },
    # No family, cell or set is one that rules are trained on or chosen by; noise is
    # small, so that losses tell optimizers apart.
    "transfer-v2": {
        "vit-patches8": Entry(
            "vit", VIT | UNSEEN | {"patch": 4, "batch_size": 256}, 200
        ),
        "mixer-patches8": Entry(
            "mixer", MIXER | UNSEEN | {"patch": 4, "batch_size": 256}, 200
        ),
        "vae-patches8": Entry("vae", VAE | UNSEEN | {"batch_size": 256}, 200),
        "rnn-topics": Entry(
            "recurrent",
            RECURRENT
            | {"dataset": "topics", "cell": "vanilla", "batch_size": 32}
            | {"width": 32, "base_width": 32},
            200,
        ),
        "bag_of_tokens": Entry("bag_of_tokens", BAG, 300),
        "coordinates-patches16": Entry("coordinates", COORDINATES, 1_000),
        "coordinates-patches16-wide": Entry(
            "coordinates", COORDINATES | {"width": 128}, 500
        ),
        "coordinates-patches16-deep": Entry(
            "coordinates", COORDINATES | {"depth": 4, "activations": ("tanh",)}, 500
        ),
        "rosenbrock": Entry("surface", SURFACE | {"dimension": 10}, 1_000),
    },
    # Networks as users make them, of sizes and batches at which the gradient takes most
    # of a step, so that seconds are compared where rules would be used.
    "scale-v1": {
        "conv-patches16": Entry(
            "conv",
            CONV
            | STANDARD
            | {"dataset": "patches16", "batch_size": 64}
            | {"width": 80, "depth": 3, "stages": 3},
            200,
        ),
        "transformer-topics": Entry(
            "transformer",
            TRANSFORMER
            | STANDARD
            | {"dataset": "topics", "context": 64, "batch_size": 64}
            | {"width": 64, "depth": 2, "heads": 4, "mlp_ratio": 4},
            200,
        ),
        "transformer-stdlib": Entry(
            "transformer",
            TRANSFORMER
            | STANDARD
            | {"context": 128, "batch_size": 64}
            | {"width": 256, "depth": 4, "heads": 8, "mlp_ratio": 4},
            500,
            accelerator=True,
        ),
    },
    # What `make demo` shows.
    "digits-v1": {
        "mlp-digits-200": Entry("mlp", DIGITS_MLP, 200),
        "mlp-digits-400": Entry("mlp", DIGITS_MLP, 400),
    },
    # To try things out in seconds; says nothing.
    "smoke-v1": {
        "softmax_regression": Entry(
            "softmax_regression", REGRESSION | {"dataset": "iris", "batch_size": 8}, 100
        ),
        "quadratic": Entry("quadratic", QUADRATIC | {"dimension": 3}, 100),
    },
}


def find(name: str) -> Mapping[str, Entry]:
    """Returns a suite, of `SUITES` or a dict of entries that `module:attribute` names.

    Raises:
      ValueError: if it is not known, listing those that are, or is no dict of entries.
    """
    found = names.find("suite", name, SUITES)
    if not isinstance(found, Mapping):
        raise ValueError(f"suite {name!r} is no dict of entries.")
    return found


def on_cpu(suite: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tasks of a suite without those for an accelerator.

    Args:
      suite: {task: entry, or a family and its number of steps}.
    """
    return {
        name: entry
        for name, entry in suite.items()
        if not (isinstance(entry, Entry) and entry.accelerator)
    }


def maybe(name: str) -> Mapping[str, Entry] | None:
    """Returns a suite, or None for a name of something else."""
    try:
        return find(name)
    except ValueError:
        return None


def growth(suite: str) -> dict[str, Growth]:
    """Returns how tasks of a suite grew, those at factor 1 among them.

    >>> growth("wider-v1")["conv-widthx8"]
    Growth(line='conv width', factor=8, base='conv-widthx1')
    """
    return {
        task: Growth(
            f"{line.family} {line.axis}", factor, next(iter(line.entries((1,))))
        )
        for line in LINES.get(suite, ())
        for factor in (1, *line.factors)
        for task in line.entries((factor,))
    }


def with_bases(suite: str) -> dict[str, Entry]:
    """Returns the tasks of a suite, after those that they grew from."""
    bases = [line.entries((1,)) for line in LINES.get(suite, ())]
    return {name: x for base in bases for name, x in base.items()} | {**find(suite)}


def family(entry: Entry) -> TaskFamily:
    """Returns the family of a task of a suite."""
    plain = augmentations.wrap(
        families.build(entry.family, **entry.args), entry.augmentations
    )
    return base.above(plain, entry.floor) if entry.floor else plain
