"""Tasks that rules are trained on, and chosen by."""

from tasks.entries import (
    AUTOENCODER,
    BIGRAM,
    CONV,
    DIGITS_MLP,
    MANY,
    QUADRATIC,
    RECURRENT,
    REGRESSION,
    SCALES,
    STANDARD,
    TEACHER,
    TRANSFORMER,
    Entry,
)

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
# Floors of train-v1's tasks, below all that tuned Adam reaches in docs/suites.md.
FLOORS = {"autoencoder": 0.24, "recurrent": 2.0, "transformer": 2.0}


# Tasks of train-v1 above what they cannot fall below, and at more widths and depths.
TRAIN_V2: dict[str, Entry] = {
    name: entry._replace(floor=FLOORS.get(name, 0.0))
    for name, entry in TRAIN_V1.items()
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
