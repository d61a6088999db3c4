"""A guard around a rule: steps of Adam, from the rule's own averages, when it fails."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lopt import history
from lopt.types import Array, Bool, Float, Int, Params, Theta

MEMORY = 0.95  # decay of the averages of losses
YOUNG = 20  # losses seen before any counts as a spike
RECOVERY = 0.9  # of the weight of Adam, from one step to the next
TRIFLE = 1e-30  # deviation of losses that were all zero


class GuardState(NamedTuple):
    """State of a guarded rule.

    Attributes:
      inner: state of the rule and of what follows it.
      mean: average of the losses so far, those of spikes cut off.
      deviation: average of their distance to it.
      seen: losses so far, those not finite apart.
      caution: weight of Adam in the next update, in [0, 1].
      spikes: losses that were far above the average, or not finite.
      failures: updates that were not finite, and gradients whose squares were not.
    """

    inner: Any
    mean: Float[Array, ""]
    deviation: Float[Array, ""]
    seen: Int[Array, ""]
    caution: Float[Array, ""]
    spikes: Int[Array, ""]
    failures: Int[Array, ""]


def guarded(
    tx: optax.GradientTransformationExtraArgs,
    decays: Theta,
    *,
    learning_rate: Any,
    scale: Any = None,
    threshold: float = 8.0,
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx`, with steps of Adam in the place of its own where it fails.

    A loss that is `threshold` average deviations above the average of those before is
    a spike: this update is Adam's, and those after it ever less so. So is an update
    that is not finite. Where gradients are not finite, or so large that the sum of
    their squares is not, nothing moves, the state of `tx` stays as it was, and the
    next update is Adam's. Adam is made of the averages that the rule keeps anyway, so
    it is warm when it is needed. Pass `value`, the loss, to `update`; without it only
    what is not finite is seen.

    Args:
      tx: a rule with a history, or a chain that begins with one; what follows the rule
        must not average updates, for those that are not finite would stay in it.
      decays: of its theta.
      learning_rate: of Adam, >= 0; a number or a schedule of the count of updates.
      scale: transformation of Adam's updates, such as `mup.scale_updates`, whose
        state is empty; or None.
      threshold: > 1, or a loss that stays higher would be a spike for ever.

    Raises:
      ValueError: if the threshold is not above 1; from `update`, if `value` is no
        scalar.
    """
    if not threshold > 1:
        raise ValueError(f"threshold must be above 1, got {threshold=}; try 8.")
    scale = scale or optax.identity()

    def init(params: Params) -> GuardState:
        zero, none = jnp.zeros([]), jnp.zeros([], jnp.int32)
        return GuardState(tx.init(params), zero, zero, none, zero, none, none)

    def update(grads, state, params=None, *, value=None, **extra):
        own, inner = tx.update(grads, state.inner, params, value=value, **extra)
        # Averages are of squares, which overflow before gradients do, and stay so.
        sound = _finite(jax.tree.map(_sum_of_squares, grads))
        inner = _where(sound, inner, state.inner)
        spiked, state = _watched(state, value, threshold)
        failed = ~(sound & _finite(own))
        caution = jnp.where(spiked | failed, 1.0, state.caution)
        safe = _adam(_rule_state(inner), decays, learning_rate)
        safe, _ = scale.update(safe, scale.init(params), params)

        def mixed(ours, theirs):
            weight = caution.astype(theirs.dtype)
            # Of a huge update a weight of 0 must leave nothing, not what rounding does.
            update = (1 - weight) * jnp.where(failed, 0, ours) + weight * theirs
            return jnp.where(sound, update, 0).astype(ours.dtype)

        updates = jax.tree.map(mixed, own, safe)
        return updates, state._replace(
            inner=inner,
            caution=jnp.where(sound, RECOVERY * caution, caution),
            spikes=state.spikes + spiked,
            failures=state.failures + failed,
        )

    return optax.GradientTransformationExtraArgs(init, update)


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
    spiked = ~finite | ((state.seen >= YOUNG) & (value > limit))
    # Cut off, so that a long spike becomes the average in time, but not at once.
    calm = jnp.where(spiked, limit, value)
    memory = jnp.minimum(MEMORY, state.seen / (state.seen + 1))
    mean = memory * state.mean + (1 - memory) * calm
    deviation = memory * state.deviation + (1 - memory) * jnp.abs(calm - state.mean)
    # The first is no distance from an average.
    deviation = jnp.where(state.seen > 0, deviation, 0)
    new, old = (mean, deviation, optax.safe_increment(state.seen)), state[1:4]
    mean, deviation, seen = _where(finite, new, old)
    return spiked, state._replace(mean=mean, deviation=deviation, seen=seen)


def _adam(state: Any, decays: Theta, learning_rate: Any) -> Params:
    """Returns Adam's updates (arXiv:1412.6980) by the averages in a rule's state."""
    count = state.count - 1  # of updates before this one
    rate = learning_rate(count) if callable(learning_rate) else learning_rate
    filled = history.filled(decays, count)

    def one(momentum, second):
        momentum = momentum / filled["momentum"][0]
        return -rate * momentum / (jnp.sqrt(second / filled["rms"][0]) + 1e-8)

    return jax.tree.map(one, state.history.momentum.short, state.history.second)


def _rule_state(state: Any) -> Any:
    """Returns the state of the rule itself, the first of a chain."""
    return state if hasattr(state, "history") else _rule_state(state[0])


def _sum_of_squares(x: Any) -> Float[Array, ""]:
    """Returns what is finite if the averages of a gradient will be."""
    x = jnp.asarray(x)
    return jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))))


def _finite(tree: Any) -> Bool[Array, ""]:
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack([jnp.bool_(True), *leaves]))


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
