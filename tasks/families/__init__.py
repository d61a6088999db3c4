"""Families of tasks, a file each."""

from collections.abc import Callable
from typing import Any

from common import names
from tasks.base import TaskFamily
from tasks.families import (
    autoencoder,
    bag,
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


def find(name: str) -> Callable[..., TaskFamily]:
    """Returns the builder of a family, of `FAMILIES` or `module:attribute`.

    Raises:
      ValueError: if it is not known, listing those that are.
    """
    return names.find("task family", name, FAMILIES, "TaskFamily")


def build(name: str, **args: Any) -> TaskFamily:
    """Returns the family `name` of `FAMILIES`; lists in `args` stand for tuples.

    Raises:
      ValueError: if it is not known, listing those that are.

    >>> args = dict(condition=[1, 10], noise=[0, 0], spectrum="uniform", rotation=True)
    >>> build("quadratic", dimension=3, **args).shapes["x"]
    ShapeDtypeStruct(shape=(3,), dtype=float32)
    """
    builder = find(name)
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return builder(**args)
