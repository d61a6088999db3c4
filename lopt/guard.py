"""A guard around a rule: steps of Adam, from the rule's own averages, when it fails."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lopt.types import Array, Bool, Float, Int, Params

MEMORY = 0.95  # decay of the averages of losses
YOUNG = 20  # losses of which a spike must also be above twice the first
RECOVERY = 0.9  # of the weight of Adam, from one step to the next
TRIFLE = 1e-30  # deviation of losses that were all zero
HUGE = 10.0  # entry of an update over the largest of its leaf


class GuardState(NamedTuple):
    """State of a guarded rule.

    Attributes:
      inner: state of the rule and of what follows it.
      first: the first finite loss.
      mean: average of the losses so far, those of spikes cut off.
      deviation: average of their distance to it.
      seen: losses so far, those not finite apart.
      caution: weight of Adam in the next update, in [0, 1].
      spikes: losses that were far above the average, or not finite.
      failures: updates that were huge or not finite, and gradients whose squares were
        not finite.
    """

    inner: Any
    first: Float[Array, ""]
    mean: Float[Array, ""]
    deviation: Float[Array, ""]
    seen: Int[Array, ""]
    caution: Float[Array, ""]
    spikes: Int[Array, ""]
    failures: Int[Array, ""]


def guarded(
    tx: optax.GradientTransformationExtraArgs,
    adam: Callable[[Any, Any], Params],
    *,
    learning_rate: Any,
    then: Sequence[optax.GradientTransformation] = (),
    scale: Any = None,
    threshold: float = 8.0,
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx`, with steps of Adam in the place of its own where it fails.

    The rule fails at a spike of the loss, and where its update is huge or not finite.
    Adam's update then replaces the rule's, and the weight of Adam shrinks in each
    update after it. A spike is `threshold` average deviations above the average of the
    losses before; one of the first 20 is also above twice the first. An update is huge
    if one of its entries is above 1, the size of Adam's at a rate of 1, and also above
    10 times the largest entry of the leaf. Where gradients are not finite, or so large
    that the sum of their squares is not, nothing moves, the state of `tx` stays as it
    was, and the next update is Adam's. Adam is made of the averages that the rule keeps
    anyway, so it is warm when it is needed. Pass `value`, the loss, to `update`;
    without it no spike is seen.

    Args:
      tx: a bound rule.
      adam: (state of the rule, learning rate) -> Adam's updates, as
        `LearnedOptimizer.adam` makes them of its theta.
      learning_rate: of Adam, >= 0; a number or a schedule of the count of updates.
      then: what follows the rule; it must not average updates, for those that are not
        finite would stay in it.
      scale: transformation of Adam's updates, such as `mup.scale_updates`, whose
        state is empty; or None.
      threshold: > 1, or a loss that stays higher would be a spike for ever.

    Raises:
      ValueError: if the threshold is not above 1; from `update`, if `value` is no
        scalar.

    Warns:
      UserWarning: from `update`, once, if it is without `value`.
    """
    if not threshold > 1:
        raise ValueError(f"threshold must be above 1, got {threshold=}; try 8.")
    tx = optax.chain(tx, *then)
    scale = scale or optax.identity()
    warn_once = functools.cache(_warn_without_value)

    def update(grads, state, params=None, *, value=None, **extra):
        if value is None:
            warn_once()
        updates_of_rule, inner = tx.update(
            grads, state.inner, params, value=value, **extra
        )
        # Averages are of squares, which overflow before gradients do, and stay so.
        sound = _finite(jax.tree.map(_sum_of_squares, grads))
        inner = _where(sound, inner, state.inner)
        spiked, state = _watched(state, value, threshold)
        failed = ~(sound & _finite(updates_of_rule)) | _huge(updates_of_rule, params)
        caution = jnp.where(spiked | failed, 1.0, state.caution)
        safe = adam(inner[0], learning_rate)
        safe, _ = scale.update(safe, scale.init(params), params)

        def mixed(ours, theirs):
            weight = caution.astype(theirs.dtype)
            # A weight of 0 must leave nothing of a huge update, not what rounding does.
            update = (1 - weight) * jnp.where(failed, 0, ours) + weight * theirs
            return jnp.where(sound, update, 0).astype(ours.dtype)

        updates = jax.tree.map(mixed, updates_of_rule, safe)
        return updates, state._replace(
            inner=inner,
            caution=jnp.where(sound, RECOVERY * caution, caution),
            spikes=state.spikes + spiked,
            failures=state.failures + failed,
        )

    return optax.GradientTransformationExtraArgs(functools.partial(_start, tx), update)


def _start(tx: optax.GradientTransformation, params: Params) -> GuardState:
    """Returns the state before the first update."""
    zero = _zero(params)
    # A weight that varies over devices will make what it weighs vary.
    inner = _where(zero == 0, *[tx.init(params)] * 2)
    first, mean, deviation, caution = (jnp.zeros_like(zero) for _ in range(4))
    seen, spikes, failures = (jnp.zeros_like(zero, jnp.int32) for _ in range(3))
    return GuardState(inner, first, mean, deviation, seen, caution, spikes, failures)


def _watched(
    state: GuardState, value: Any, threshold: float
) -> tuple[Bool[Array, ""], GuardState]:
    """Returns whether a loss is a spike, and the averages that have seen it."""
    if value is None:
        return jnp.bool_(False), state
    value = jnp.asarray(value)
    if value.ndim:
        raise ValueError(
            f"value must be the loss, a scalar, not of shape {value.shape}."
        )
    eps = float(jnp.finfo(jnp.promote_types(value.dtype, jnp.bfloat16)).eps)
    value = value.astype(state.mean.dtype)
    finite = jnp.isfinite(value)
    # Without a deviation rounding would be a spike, and a step up one for ever.
    least = eps * jnp.abs(state.mean) + TRIFLE
    limit = state.mean + threshold * (state.deviation + least)
    # Averages of few losses say little of how they vary.
    doubled = (state.seen > 0) & (value > state.first + jnp.abs(state.first))
    spiked = ~finite | ((value > limit) & (doubled | (state.seen >= YOUNG)))
    # Cut off, so that a long spike becomes the average in time, but not at once.
    calm = jnp.where(spiked, limit, value)
    memory = jnp.minimum(MEMORY, state.seen / (state.seen + 1))
    mean = memory * state.mean + (1 - memory) * calm
    deviation = memory * state.deviation + (1 - memory) * jnp.abs(calm - state.mean)
    # The first is no distance from an average.
    deviation = jnp.where(state.seen > 0, deviation, 0)
    first = jnp.where(state.seen > 0, state.first, value)
    seen = optax.safe_increment(state.seen)
    new = dict(first=first, mean=mean, deviation=deviation, seen=seen)
    old = {name: getattr(state, name) for name in new}
    return spiked, state._replace(**_where(finite, new, old))


def _warn_without_value() -> None:
    warnings.warn(
        "a guard without the loss sees no spike: call update(..., value=loss).",
        stacklevel=3,
    )


def _zero(params: Params) -> Float[Array, ""]:
    """Returns 0 where params are on a mesh, varying inside `shard_map` as they do."""
    zeros = (jnp.zeros_like(x, float).sum() for x in jax.tree.leaves(params))
    return sum(zeros, jnp.zeros([]))


def _huge(updates: Any, params: Params) -> Bool[Array, ""]:
    """Returns whether a leaf's update has an entry far above Adam's and the leaf's."""

    def huge(update, param):
        return _largest(update) > jnp.maximum(1, HUGE * _largest(param))

    leaves = jax.tree.leaves(jax.tree.map(huge, updates, params))
    return jnp.any(jnp.stack([jnp.bool_(False), *leaves]))


def _largest(x: Any) -> Float[Array, ""]:
    """Returns the largest magnitude in a leaf, 0 in one that is empty."""
    return jnp.max(jnp.abs(jnp.asarray(x)), initial=0).astype(float)


def _sum_of_squares(x: Any) -> Float[Array, ""]:
    """Returns what is finite if the averages of a gradient will be."""
    x = jnp.asarray(x)
    return jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))))


def _finite(tree: Any) -> Bool[Array, ""]:
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack([jnp.bool_(True), *leaves]))


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
