"""Names of task families, and of suites: frozen lists of them, with their lengths.

A suite never changes; what is mended gets a new version. `python -m tasks` prints them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tasks import (
    augment,
    autoencoder,
    bag,
    base,
    bigram,
    conv,
    coordinates,
    language,
    mixer,
    mlp,
    quadratic,
    surfaces,
    teacher,
    vit,
)
from tasks.base import TaskFamily, known
from tasks.entries import (
    AUTOENCODER,
    BAG,
    BIGRAM,
    CONV,
    COORDINATES,
    DIGITS_MLP,
    MANY,
    MIXER,
    QUADRATIC,
    RECURRENT,
    REGRESSION,
    RESNET,
    SCALES,
    STANDARD,
    SURFACE,
    TEACHER,
    TRANSFORMER,
    UNSEEN,
    VAE,
    VIT,
    Entry,
)

FAMILIES = {
    "autoencoder": autoencoder.autoencoder,
    "bag_of_tokens": bag.bag_of_tokens,
    "bigram": bigram.bigram,
    "conv": conv.conv,
    "coordinates": coordinates.coordinates,
    "mixer": mixer.mixer,
    "mlp": mlp.mlp,
    "quadratic": quadratic.quadratic,
    "recurrent": language.recurrent,
    "resnet": conv.resnet,
    "softmax_regression": mlp.softmax_regression,
    "surface": surfaces.surface,
    "teacher_student": teacher.teacher_student,
    "transformer": language.transformer,
    "vae": autoencoder.vae,
    "vit": vit.vit,
}


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


TRAIN_V1: dict[str, Entry] = {
    "mlp": Entry(
        "mlp",
        DIGITS_MLP
        | {
            "activations": MANY,
            "vary": {"init_scale": (0.5, 2.0), "label_noise": (0.0, 0.2)},
        },
        200,
        (SCALES,),
    ),
    "softmax_regression": Entry(
        "softmax_regression", REGRESSION | {"vary": {"examples": (0.3, 1.0)}}, 200
    ),
    "conv": Entry(
        "conv", CONV | {"activations": MANY, "vary": {"classes": (3, 10)}}, 200
    ),
    "autoencoder": Entry("autoencoder", AUTOENCODER, 200),
    "recurrent": Entry("recurrent", RECURRENT, 200),
    "transformer": Entry(
        "transformer", TRANSFORMER | {"vary": {"batch_size": (4, 8)}}, 200
    ),
    "teacher_student": Entry("teacher_student", TEACHER, 200),
    "quadratic": Entry("quadratic", QUADRATIC, 200),
}
# Of train-v1's tasks, below what tuned Adam reaches anywhere in docs/suites.md.
FLOORS = {"autoencoder": 0.24, "recurrent": 2.0, "transformer": 2.0}


# Tasks of train-v1 above what they cannot fall below, and at more widths and depths.
TRAIN_V2: dict[str, Entry] = {
    name: one._replace(floor=FLOORS.get(name, 0.0)) for name, one in TRAIN_V1.items()
} | {
    "mlp-deep": Entry("mlp", DIGITS_MLP | {"width": 48, "depth": 4}, 200),
    "mlp-deeper": Entry(
        "mlp",
        DIGITS_MLP | {"width": 16, "depth": 8, "batch_size": 32, "activations": MANY},
        200,
    ),
    "autoencoder-deep": Entry(
        "autoencoder",
        AUTOENCODER | {"width": 48, "depth": 3, "latent": 6, "activations": MANY},
        200,
        floor=FLOORS["autoencoder"],
    ),
}
# Networks as users make them: in standard parametrization, where no readout is zero.
TRAIN_STANDARD: dict[str, Entry] = {
    "conv-standard": Entry(
        "conv", CONV | STANDARD | {"depth": 3, "activations": ("relu",)}, 200
    ),
    "resnet-standard": Entry(
        "resnet",
        CONV
        | STANDARD
        | {"norm": "none", "width": 12, "batch_size": 16, "activations": ("relu",)},
        200,
    ),
    "mlp-standard": Entry(
        "mlp", DIGITS_MLP | STANDARD | {"depth": 1, "activations": MANY}, 200
    ),
    "mlp-deep-standard": Entry(
        "mlp", DIGITS_MLP | STANDARD | {"width": 24, "depth": 4}, 200
    ),
    "mlp-deeper-standard": Entry(
        "mlp",
        DIGITS_MLP | STANDARD | {"width": 40, "depth": 6, "activations": MANY},
        200,
    ),
    "lstm-standard": Entry(
        "recurrent", RECURRENT | STANDARD | {"cell": "lstm"}, 200, floor=2.0
    ),
    "transformer-standard": Entry(
        "transformer",
        TRANSFORMER | STANDARD | {"width": 24, "depth": 2},
        200,
        floor=2.0,
    ),
    "bigram-standard": Entry("bigram", BIGRAM | STANDARD, 200),
}
# Families at shapes that no suite has that is trained on or reported.
VALID_V1: dict[str, Entry] = {
    "mlp-wine": Entry(
        "mlp",
        DIGITS_MLP
        | {"dataset": "wine", "width": 192, "depth": 3, "activations": ("gelu",)},
        150,
    ),
    "mlp-digits": Entry(
        "mlp", DIGITS_MLP | {"resolution": 4, "width": 24, "depth": 6}, 300
    ),
    "mlp-diabetes": Entry(
        "mlp", DIGITS_MLP | {"dataset": "diabetes", "width": 96, "depth": 1}, 200
    ),
    "conv": Entry("conv", CONV | {"width": 24, "stages": 1, "depth": 3}, 300),
    "lstm": Entry(
        "recurrent", RECURRENT | {"cell": "lstm", "width": 24}, 500, floor=2.0
    ),
    "transformer": Entry(
        "transformer", TRANSFORMER | {"width": 24, "depth": 3}, 500, floor=2.0
    ),
    "autoencoder": Entry(
        "autoencoder",
        AUTOENCODER
        | {"width": 96, "depth": 2, "activations": ("gelu",), "loss": "squared"},
        300,
    ),
    "teacher_student": Entry(
        "teacher_student", TEACHER | {"width": 96, "depth": 2, "outputs": 3}, 300
    ),
    "quadratic": Entry("quadratic", QUADRATIC | {"dimension": 50}, 800),
}
# Networks as users make them at such shapes, on sets that no suite reports as far as
# there are any.
VALID_STANDARD: dict[str, Entry] = {
    "conv-standard": Entry(
        "conv",
        CONV
        | STANDARD
        | {"resolution": 6, "width": 20, "depth": 4, "activations": ("relu",)},
        300,
    ),
    "resnet-standard": Entry(
        "resnet",
        CONV
        | STANDARD
        | {"norm": "none", "resolution": 6, "width": 8, "depth": 3, "batch_size": 16},
        300,
    ),
    "mlp-wine-standard": Entry(
        "mlp", DIGITS_MLP | STANDARD | {"dataset": "wine", "width": 40, "depth": 5}, 150
    ),
    "mlp-digits-standard": Entry(
        "mlp",
        DIGITS_MLP
        | STANDARD
        | {"resolution": 4, "width": 40, "depth": 8, "activations": ("gelu",)},
        300,
    ),
    "lstm-standard": Entry(
        "recurrent",
        RECURRENT | STANDARD | {"cell": "lstm", "context": 12, "width": 40},
        300,
        floor=2.0,
    ),
    "transformer-standard": Entry(
        "transformer",
        TRANSFORMER | STANDARD | {"context": 12, "width": 40, "heads": 4, "depth": 2},
        300,
        floor=2.0,
    ),
    "bigram-standard": Entry(
        "bigram", BIGRAM | STANDARD | {"vocabulary": 768, "width": 24}, 500
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
        name: {task: one for line in lines for task, one in line.entries().items()}
        for name, lines in LINES.items()
    },
    # Of no family and of no set of train-v1.
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
    # Of no family, cell or set of what rules are trained on or chosen by; where noise
    # is small, so that losses tell optimizers apart.
    "transfer-v2": {
        "vit-patches8": Entry(
            "vit", VIT | UNSEEN | {"patch": 4, "batch_size": 256}, 300
        ),
        "mixer-patches8": Entry(
            "mixer", MIXER | UNSEEN | {"patch": 4, "batch_size": 256}, 300
        ),
        "vae-patches8": Entry("vae", VAE | UNSEEN | {"batch_size": 256}, 300),
        "rnn-topics": Entry(
            "recurrent",
            RECURRENT
            | {"dataset": "topics", "cell": "vanilla", "batch_size": 64}
            | {"width": 32, "base_width": 32},
            300,
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
    return {name: x for base in bases for name, x in base.items()} | SUITES[suite]


def build(name: str, **args: Any) -> TaskFamily:
    """Returns the family `name` of `FAMILIES`; lists in `args` stand for tuples.

    Raises:
      ValueError: if it is not known, listing those that are.

    >>> args = dict(condition=[1, 10], noise=[0, 0], spectrum="uniform", rotation=True)
    >>> build("quadratic", dimension=3, **args).shapes["x"]
    ShapeDtypeStruct(shape=(3,), dtype=float32)
    """
    builder = FAMILIES[known("task family", name, FAMILIES)]
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return builder(**args)


def family(entry: Entry) -> TaskFamily:
    """Returns the family of a task of a suite."""
    plain = augment.wrap(build(entry.family, **entry.args), entry.augmentations)
    return base.above(plain, entry.floor) if entry.floor else plain
