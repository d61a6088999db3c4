"""The types that cross rooms: meta-parameters, features, learned optimizers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optax

# Shapes are checked in tests only; the inference-only core does not need jaxtyping.
if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Scalar
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Scalar
    except ImportError:

        class _Unchecked:
            """Stands in for jaxtyping's annotations: any subscript is `Any`."""

            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Array = jax.Array
        Bool = Float = Int = Key = PyTree = Scalar = _Unchecked

Theta = Any  # meta-parameters: a pytree of float arrays, nested dicts
Params = Any  # inner parameters: any pytree of float arrays


class Features(NamedTuple):
    """Inputs of the per-parameter MLP for one tensor, each where it is smallest.

    `d0` is the largest axis of the tensor and `d1` the second largest. For rank
    below 2 `row` and `col` hold the full second moment, not reduced.

    Attributes:
      full: [f, *p], differs per parameter.
      row: [r, *p] with size 1 along d0.
      col: [c, *p] with size 1 along d1.
      tensor: [t], constant over the tensor (time).
    """

    full: Any
    row: Any
    col: Any
    tensor: Any


class LearnedOptimizer(NamedTuple):
    """A rule: `init(key) -> theta` and `bind(theta, *, num_steps=None) -> tx`.

    `tx` is an `optax.GradientTransformationExtraArgs`. `num_steps` is the length
    of the inner run in steps; it may be traced, and is required by rules whose
    time inputs or schedules are relative to it.

    `penalty(theta, params)` is a scalar that `tx` minimises together with the loss: it
    adds the penalty's gradient to those that it is given. None: theta does not enter
    what is minimised.

    `adam(theta, state, learning_rate)` is Adam's update after that of `tx`, made of the
    averages in the state of `tx` and theta's own decays; the rate is a number or a
    schedule of the count of updates. None: the rule keeps no such averages.
    """

    init: Callable[[Any], Theta]
    bind: Callable[..., optax.GradientTransformationExtraArgs]
    penalty: Callable[[Theta, Params], Any] | None = None
    adam: Callable[[Theta, Any, Any], Params] | None = None
