"""Hand-designed optimizers, and the hyperparameters of each that are worth tuning.

>>> adamw = BASELINES["adamw"]
>>> tx = adamw.build(num_steps=200, **adamw.defaults)
>>> adamw.space["learning_rate"]
Range(low=0.0001, high=1.0, scale='log')
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from lopt.baselines import contrib, hand_designed
from lopt.baselines.spaces import Range
from lopt.schedules import SCHEDULES
from lopt.types import Params


class Baseline(NamedTuple):
    """A hand-designed optimizer and what to tune of it.

    Attributes:
      build: `build(*, num_steps, info=None, learning_rate, schedule="constant",
        warmup=0.0, **own)` -> an `optax.GradientTransformationExtraArgs`. `num_steps`
        is the number of updates of the run; it may be traced if `traced` is true.
        Numeric hyperparameters may always be traced, so that trials share one program.
        `lopt.schedules` accept traced numbers; Optax's own schedules do not. `schedule`
        is a name or an index of `SCHEDULES`. A builder that takes `info` is given what
        `mup.infer` returns.
      space: ranges, and tuples of choices, by hyperparameter; see `spaces`.
      defaults: what one would take untuned, for every name of `space`.
      eval_params: (state, params) -> the parameters to judge, where these are not those
        that are updated; else None.
      learned: whether it is a learned optimizer that takes a learning rate.
      traced: whether `num_steps` may be traced, so that all lengths share a program.
      rates: how many evenly spaced learning rates to try, whatever the protocol; None:
        the protocol decides, as for other baselines.
    """

    build: Callable[..., optax.GradientTransformationExtraArgs]
    space: dict[str, Range | tuple[Any, ...]]
    defaults: dict[str, Any]
    eval_params: Callable[[Any, Params], Params] | None = None
    learned: bool = False
    traced: bool = False
    rates: int | None = None


def _baseline(
    build: Callable[..., Any],
    *,
    default_rate: float,
    scheduled: bool = True,
    eval_params: Callable[[Any, Params], Params] | None = None,
    **space: Range | tuple[Any, ...],
) -> Baseline:
    """Returns the baseline whose defaults are its builder's, and cosine annealing."""
    schedule = {"schedule": tuple(SCHEDULES)} if scheduled else {}
    space = schedule | {"warmup": WARMUPS} | space
    parameters = inspect.signature(build).parameters
    declared = {name: parameters[name].default for name in space if name in parameters}
    chosen = {"schedule": "cosine", "warmup": 0.05, "learning_rate": default_rate}
    defaults = {name: (declared | chosen)[name] for name in space}
    return Baseline(build, space, defaults, eval_params, traced=True)


# After AlgoPerf (arXiv:2306.07179), wider: networks are small here, and runs short.
WARMUPS = (0.0, 0.02, 0.05, 0.1)
SGD_RATES = Range(1e-3, 10.0)
ADAM_RATES = Range(1e-4, 1.0)
MOMENTUM = Range(0.5, 0.995, "complement")
B1 = Range(0.5, 0.99, "complement")
B2 = Range(0.9, 0.9999, "complement")
DECAY = Range(1e-3, 1.0)

SGD: dict[str, Any] = dict(default_rate=0.1, learning_rate=SGD_RATES, momentum=MOMENTUM)
ADAM: dict[str, Any] = dict(default_rate=1e-3, learning_rate=ADAM_RATES, b1=B1, b2=B2)

BASELINES = {
    "sgdm": _baseline(hand_designed.sgdm, **SGD),
    "nesterov": _baseline(hand_designed.nesterov, **SGD),
    "adam": _baseline(hand_designed.adam, **ADAM),
    "adamw": _baseline(hand_designed.adamw, **ADAM, weight_decay=DECAY),
    "nadamw": _baseline(hand_designed.nadamw, **ADAM, weight_decay=DECAY),
    "amsgrad": _baseline(hand_designed.amsgrad, **ADAM),
    # Rates of Adafactor and LAMB are relative to the size of what they change.
    "adafactor": _baseline(
        hand_designed.adafactor,
        default_rate=1e-2,
        learning_rate=Range(1e-3, 1.0),
        momentum=Range(0.0, 0.99, "complement"),
        decay=Range(0.5, 0.99, "linear"),
        weight_decay=DECAY,
    ),
    "lamb": _baseline(
        hand_designed.lamb,
        default_rate=1e-2,
        learning_rate=Range(1e-4, 1.0),
        b1=B1,
        b2=B2,
        weight_decay=DECAY,
    ),
    # A tenth of Adam's rates and ten times its decay, as in arXiv:2302.06675.
    "lion": _baseline(
        hand_designed.lion,
        default_rate=1e-4,
        learning_rate=Range(1e-5, 1e-1),
        b1=B1,
        b2=Range(0.9, 0.999, "complement"),
        weight_decay=Range(1e-2, 10.0),
    ),
    "muon": _baseline(
        contrib.muon,
        default_rate=1e-3,
        learning_rate=ADAM_RATES,
        momentum=Range(0.5, 0.99, "complement"),
        adam_share=Range(0.1, 10.0),
        weight_decay=DECAY,
    ),
    "schedule_free_adamw": _baseline(
        contrib.schedule_free_adamw,
        default_rate=2.5e-3,
        scheduled=False,
        eval_params=contrib.schedule_free_params,
        learning_rate=ADAM_RATES,
        b1=Range(0.7, 0.99, "complement"),
        b2=B2,
        weight_decay=DECAY,
    ),
    # The authors leave the rate at 1.
    "prodigy": _baseline(
        contrib.prodigy,
        default_rate=1.0,
        learning_rate=Range(0.1, 10.0),
        b1=B1,
        b2=B2,
        initial=(1e-6, 1e-5, 1e-4),
        weight_decay=(0.0, 1e-3, 1e-2, 1e-1),
    ),
    "muadam": _baseline(hand_designed.muadam, **ADAM),
    "musgd": _baseline(hand_designed.musgd, **SGD),
}
