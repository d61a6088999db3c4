"""Names of task families."""

from typing import Any

from tasks import mlp, quadratic
from tasks.base import TaskFamily, known

FAMILIES = {"mlp": mlp.mlp, "quadratic": quadratic.quadratic}


def build(name: str, **args: Any) -> TaskFamily:
    """Returns the family `name` of `FAMILIES`; lists in `args` stand for tuples.

    Raises:
      ValueError: if it is not known, listing those that are.

    >>> build("quadratic", dimension=3, condition=[1, 10], noise=[0, 0]).shapes["x"]
    ShapeDtypeStruct(shape=(3,), dtype=float32)
    """
    builder = FAMILIES[known("task family", name, FAMILIES)]
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return builder(**args)
