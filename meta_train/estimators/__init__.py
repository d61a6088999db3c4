"""Meta-gradient estimators behind one interface."""

from typing import Any

from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.bootstrapped import bootstrapped
from meta_train.estimators.mixture import mix
from meta_train.estimators.pes import pes
from meta_train.estimators.truncated import truncated
from tasks.base import known

ESTIMATORS = {
    "truncated": truncated,
    "bootstrapped": bootstrapped,
    "pes": pes,
}

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "build", "mix"]


def build(name: str, **args: Any) -> Estimator:
    """Returns the estimator `name` of `ESTIMATORS`.

    Raises:
      ValueError: for an unknown name, listing the known ones.
    """
    return ESTIMATORS[known("estimator", name, ESTIMATORS)](**args)
