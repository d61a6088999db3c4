"""Meta-gradient estimators behind one interface."""

import difflib
from typing import Any

from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.bootstrapped import bootstrapped
from meta_train.estimators.pes import pes
from meta_train.estimators.truncated import truncated

ESTIMATORS = {
    "truncated": truncated,
    "bootstrapped": bootstrapped,
    "pes": pes,
}

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "build"]


def build(name: str, **args: Any) -> Estimator:
    """Returns the estimator `name` of `ESTIMATORS`.

    Raises:
      ValueError: for an unknown name, listing the known ones.
    """
    if name not in ESTIMATORS:
        near = difflib.get_close_matches(name, ESTIMATORS, 1, cutoff=0)
        raise ValueError(
            f"unknown estimator {name!r}; known: {', '.join(ESTIMATORS)}. "
            f"Did you mean {near[0]!r}?"
        )
    return ESTIMATORS[name](**args)
