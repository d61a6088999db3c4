"""Meta-gradient estimators behind one interface."""

from collections.abc import Callable
from typing import Any

from common import names, settings
from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.bootstrapped import bootstrapped, bootstrapped_pes
from meta_train.estimators.combined import combined
from meta_train.estimators.evolution import es, nres, pes, truncated_es
from meta_train.estimators.implicit import implicit
from meta_train.estimators.mixture import mix
from meta_train.estimators.reverse import full, multi_step, smoothed, truncated

ESTIMATORS = {
    "truncated": truncated,
    "multi_step": multi_step,
    "smoothed": smoothed,
    "full": full,
    "es": es,
    "truncated_es": truncated_es,
    "pes": pes,
    "nres": nres,
    "bootstrapped": bootstrapped,
    "bootstrapped_pes": bootstrapped_pes,
    "combined": combined,
    "implicit": implicit,
}

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "build", "find", "mix"]


def find(name: str) -> Callable[..., Estimator]:
    """Returns the builder of an estimator, of `ESTIMATORS` or `module:attribute`.

    Raises:
      ValueError: for an unknown name, listing the known ones.
    """
    return names.find("estimator", name, ESTIMATORS, "Estimator")


def build(name: str, **args: Any) -> Estimator:
    """Returns the estimator of a name, built of arguments as configs have them."""
    return settings.call(find(name), "config.estimator.args", args)
