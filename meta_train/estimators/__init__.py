"""Meta-gradient estimators behind one interface."""

from collections.abc import Mapping
from typing import Any

from common import settings
from common.names import known
from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.bootstrapped import (
    Target,
    bootstrapped,
    bootstrapped_pes,
)
from meta_train.estimators.combined import combined
from meta_train.estimators.evolution import es, nres, pes, truncated_es
from meta_train.estimators.implicit import Solver, implicit
from meta_train.estimators.mixture import mix
from meta_train.estimators.noise import Noise
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
# Arguments with settings of their own.
SECTIONS = {"noise": Noise, "target": Target, "solver": Solver}

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "build", "built", "mix"]


def build(name: str, **args: Any) -> Estimator:
    """Returns the estimator `name` of `ESTIMATORS`; `args` as `built` takes them.

    Raises:
      ValueError: for an unknown name, listing the known ones.
    """
    return ESTIMATORS[known("estimator", name, ESTIMATORS)](**built(args))


def built(args: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments of an estimator, those of `SECTIONS` built from dicts.

    Raises:
      ValueError: for a setting of these that is unknown or missing, or a bad value.
    """
    return {
        name: settings.call(SECTIONS[name], f"config.estimator.args.{name}", value)
        if name in SECTIONS and not isinstance(value, SECTIONS[name])
        else value
        for name, value in args.items()
    }
