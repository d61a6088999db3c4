"""The per-parameter MLP rule, as an Optax transformation bound to theta."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lopt import checks
from lopt.names import known
from lopt.rules import entries, features, history, network
from lopt.rules.history import History
from lopt.rules.settings import Settings, head_of
from lopt.types import Array, Features, Int, LearnedOptimizer, Params, Theta


class RuleState(NamedTuple):
    """State of a bound rule: updates done so far, and averages of gradients."""

    count: Int[Array, ""]  # type: ignore[assignment]  # not the method of tuples
    history: History  # of trees like params


def mlp(
    *,
    hidden: int = 32,
    layers: int = 2,
    head: str = "exp",
    eps: str = "relative",
    time: tuple[str, ...] = ("relative",),
    signal: bool = False,
    nominal: float = 0.0,
    clip: Any = None,
    step_mult: float = 1e-3,
    exp_mult: float = 1e-3,
    bound: Any = None,
    axes: str = "size",
) -> LearnedOptimizer:
    """Returns the per-parameter MLP rule (arXiv:2203.11860, muLO: 2406.00153).

    Args:
      hidden: units per hidden layer.
      layers: hidden layers.
      head: "exp", or "normalised", which leaves the step size to a schedule; or
        `module:attribute` of a pair like those of `heads.HEADS`.
      eps: "relative" (updates do not depend on the scale of gradients) or "absolute"
        (constants of the original).
      time: time inputs: any of "absolute" (tied to the horizon trained at),
        "relative" (needs `num_steps`) and "log"; at least one.
      signal: whether it sees how noisy a tensor's gradients are, whether they grow,
        and how deep the model is (`features.signal`); not in the original.
      nominal: weight of Adam's direction, made of the rule's own averages, that is
        added to the network's (arXiv:2209.11208); where it is not 0 the network's last
        layer starts at 0, so that an untrained rule goes Adam's way: with "exp", in
        steps of rate `step_mult`. 0 in the original.
      clip: bound of the normalised inputs, without which rules trained on small
        tensors may take steps of any size in large ones; None in the original.
      step_mult: multiplies the update, 1e-3 in the original.
      exp_mult: multiplies the log-magnitude output, 1e-3 in the original.
      bound: greatest ratio of an entry's step to Adam's of rate `step_mult`
        (`heads.bounded`), > 0; None, as in the original: steps have no bound, and
        entries without a gradient may move.
      axes: over which second moments are factored: "size", the two largest, as in the
        original, or "fans", the last two.

    Raises:
      ValueError: for a name that is not known, listing those that are, or a clip,
        bound, size or multiplier that is not positive.
    """
    how = Settings(**locals())
    _check(how)

    def bind(
        theta: Theta, *, num_steps: Any = None
    ) -> optax.GradientTransformationExtraArgs:
        if "relative" in time and num_steps is None:
            raise ValueError(
                "this rule's time inputs are relative to the length of the run: "
                "pass num_steps, the number of updates you will do."
            )
        checks.check_steps(num_steps)
        now = functools.partial(features.time_features, time, num_steps=num_steps)
        start = functools.partial(history.init, axes=axes)

        def updated(count, *leaves):
            filled = history.filled(theta["decays"], count)
            call = entries.Call(how, theta, now(count=count), filled)
            return entries.updated(call, *leaves)

        jitted = jax.jit(updated)

        def once(*args):
            # Else loops would be compiled anew at each call outside of `jit`.
            known = all(map(checks.is_known, jax.tree.leaves((theta, num_steps, args))))
            return (jitted if known else updated)(*args)

        return _transformation(start, once)

    return LearnedOptimizer(functools.partial(_init, how), bind, adam=_adam)


def _check(how: Settings) -> None:
    """Raises ValueError for a name that is not known, or a value out of range."""
    for name in ("clip", "bound"):
        value = getattr(how, name)
        if checks.is_known(value) and not value > 0:
            raise ValueError(f"{name} must be positive or None, got {name}={value}.")
    hidden, layers, step_mult = how.hidden, how.layers, how.step_mult
    if not (hidden >= 1 and layers >= 1 and step_mult > 0):
        raise ValueError(
            "the network needs hidden and layers >= 1, and steps step_mult > 0, got "
            f"{hidden=}, {layers=} and {step_mult=}."
        )
    head_of(how)
    known("eps", how.eps, ("relative", "absolute"))
    known("axes", how.axes, history.AXES)
    if not how.time:
        raise ValueError(f"time is empty; known: {', '.join(features.TIME)}.")
    for kind in how.time:
        known("time", kind, features.TIME)


def _init(how: Settings, key: jax.Array) -> Theta:
    """Returns the first theta."""
    constant = sum(features.TIME_SIZES[kind] for kind in how.time)
    net = network.init(
        key,
        inputs=Features(16, 6, 6, constant + how.signal * features.SIGNALS),
        hidden=how.hidden,
        layers=how.layers,
        outputs=head_of(how)[0],
    )
    if how.nominal:
        net[f"w{how.layers}"] = jnp.zeros_like(net[f"w{how.layers}"])
    return {"network": net, "decays": history.init_decays()}


def _adam(theta: Theta, state: RuleState, learning_rate: Any) -> Params:
    """Returns Adam's updates (arXiv:1412.6980) by the averages in a rule's state."""
    count = state.count - 1  # of updates before this one
    rate = learning_rate(count) if callable(learning_rate) else learning_rate
    filled = history.filled(theta["decays"], count)

    def updated(momentum, second):
        momentum = momentum / filled["momentum"][0]
        moved = second > 0
        # Selected before the root too, whose derivative at 0 is infinite.
        root = jnp.sqrt(jnp.where(moved, second, 1) / filled["rms"][0])
        return -rate * momentum / (jnp.where(moved, root, 0) + 1e-8)

    return jax.tree.map(updated, state.history.momentum.short, state.history.second)


def _transformation(start: Any, updated: Any) -> optax.GradientTransformationExtraArgs:
    """Returns the Optax transformation that applies a rule to every tensor.

    Args:
      start: makes the history of a tensor.
      updated: (count, gradients, params, histories) -> updates and histories.
    """

    def init(params: Params) -> RuleState:
        past = [start(jnp.asarray(p)) for p in jax.tree.leaves(params)]
        return RuleState(jnp.zeros([], jnp.int32), history.of_trees(past, params))

    def update(grads, state, params=None, *, value=None, **extra):
        del value, extra
        if params is None:
            raise ValueError(
                "this rule reads the parameters: call update(..., params)."
            )
        past = history.of_leaves(state.history, grads)
        leaves, structure = jax.tree.flatten(grads)
        tree: Any = structure
        leaves = [jnp.asarray(x) for x in leaves]  # floats of Python too
        params = [jnp.asarray(x) for x in tree.flatten_up_to(params)]
        updates, past = updated(state.count, leaves, params, past)
        count = optax.safe_increment(state.count)
        return tree.unflatten(updates), RuleState(count, history.of_trees(past, grads))

    return optax.GradientTransformationExtraArgs(init, update)
