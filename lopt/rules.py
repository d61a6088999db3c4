"""Rules: what is learned of an optimizer, bound to theta as an Optax transformation."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lopt import baselines, checks, features, heads, history, network
from lopt.names import known as _known
from lopt.types import Array, Features, Int, LearnedOptimizer, Params, Theta


class RuleState(NamedTuple):
    """State of a bound rule: updates done so far, and averages of gradients."""

    count: Int[Array, ""]
    history: history.History  # of trees like params


def mlp(
    *,
    hidden: int,
    layers: int,
    head: str,
    eps: str,
    time: tuple[str, ...],
    signal: bool,
    nominal: float,
    clip: float | None,
    step_mult: float,
    exp_mult: float,
    bound: float | None = None,
    axes: str = "size",
) -> LearnedOptimizer:
    """Returns the per-parameter MLP rule (arXiv:2203.11860, muLO: 2406.00153).

    Args:
      hidden: units per hidden layer.
      layers: hidden layers.
      head: "exp", or "normalised", which leaves the step size to a schedule.
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
    for name, value in {"clip": clip, "bound": bound}.items():
        if checks.is_known(value) and not value > 0:
            raise ValueError(f"{name} must be positive or None, got {name}={value}.")
    if not (hidden >= 1 and layers >= 1 and step_mult > 0):
        raise ValueError(
            "the network needs hidden and layers >= 1, and steps step_mult > 0, got "
            f"{hidden=}, {layers=} and {step_mult=}."
        )
    _known("head", head, heads.HEADS)
    _known("eps", eps, ("relative", "absolute"))
    _known("axes", axes, history.AXES)
    if not time:
        raise ValueError(f"time is empty; known: {', '.join(features.TIME)}.")
    for kind in time:
        _known("time", kind, features.TIME)
    head_outputs, head_update = heads.HEADS[head]
    constant = sum(features.TIME_SIZES[kind] for kind in time)
    sizes = Features(16, 6, 6, constant + signal * features.SIGNALS)

    def init(key: jax.Array) -> Theta:
        net = network.init(
            key, inputs=sizes, hidden=hidden, layers=layers, outputs=head_outputs
        )
        if nominal:
            net[f"w{layers}"] = jnp.zeros_like(net[f"w{layers}"])
        return {"network": net, "decays": history.init_decays()}

    def leaf(theta, grad, param, past, count, now, matrices):
        """Returns the update and the new history of one tensor."""
        grad, param = jnp.asarray(grad), jnp.asarray(param)  # floats of Python too
        if not param.size:
            return jnp.zeros_like(param), past
        past = history.stacked(past)
        dtype = jnp.promote_types(param.dtype, jnp.float32)
        grad, wide = grad.astype(dtype), param.astype(dtype)
        past = history.update(theta["decays"], grad, past, axes)
        filled = history.filled(theta["decays"], count)
        inputs, scales = features.features(
            wide,
            grad,
            past,
            time=now,
            relative=eps == "relative",
            clip=clip,
            filled=filled if signal else None,
            matrices=matrices,
            axes=axes,
        )
        outputs = network.apply(theta["network"], inputs, scales)
        if nominal:
            unbiased = jnp.sqrt(filled["rms"][0]) / filled["momentum"][0]
            adam = unbiased.astype(dtype) * inputs.full[features.ADAM]
            outputs = outputs.at[0].add(nominal * adam)
        update = head_update(outputs, grad, step_mult=step_mult, exp_mult=exp_mult)
        if bound is not None:
            update = heads.bounded(update, past, filled, most=bound * step_mult)
        return update.astype(param.dtype), history.unstacked(past)

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
        return _transformation(start, functools.partial(leaf, theta), now)

    return LearnedOptimizer(init, bind)


def _transformation(
    start: Any, leaf: Any, now: Any
) -> optax.GradientTransformationExtraArgs:
    """Returns the Optax transformation that applies `leaf` to every tensor.

    `start` makes the history of a tensor.
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
        whole = grads
        grads, tree = jax.tree.flatten(grads)
        params = tree.flatten_up_to(params)
        matrices = sum(jnp.ndim(p) >= 2 for p in params)
        when = state.count, now(count=state.count), matrices
        pairs = [leaf(*x, *when) for x in zip(grads, params, past, strict=True)]
        updates, past = ([pair[i] for pair in pairs] for i in range(2))
        count = optax.safe_increment(state.count)
        past = history.of_trees(past, whole)
        return tree.unflatten(updates), RuleState(count, past)

    return optax.GradientTransformationExtraArgs(init, update)


def weight_decay(
    *, baseline: str, learning_rate: float, initial: float
) -> LearnedOptimizer:
    """Returns a baseline with learned weight decay, 1/2 sum exp(log_decay) |x|^2.

    The decay is coupled: its gradient is added to that of the loss before the baseline
    sees it. So it moves the optimum, by the same whatever the baseline and its rate,
    and meta-gradients may be implicit. Leaves of rank 2 or more ("matrix") have a decay
    of their own, those below ("vector") another.

    Args:
      baseline: "sgdm" or "adam", as in `BASELINES`, without a schedule.
      learning_rate: of the baseline, > 0.
      initial: both decays of the first theta, > 0.

    Raises:
      ValueError: for another baseline, or a rate or decay that is not positive.
    """
    _known("baseline", baseline, COUPLED)
    if not (learning_rate > 0 and initial > 0):
        raise ValueError(
            "learning_rate and initial must be positive, got "
            f"{learning_rate=} and {initial=}."
        )

    def init(key: jax.Array) -> Theta:
        del key
        start = jnp.log(initial)
        return {"log_decay": {"matrix": start, "vector": start}}

    def penalty(theta: Theta, params: Params) -> jax.Array:
        decays = jax.tree.map(jnp.exp, theta["log_decay"])

        def share(x: Any) -> jax.Array:
            x = _wide(x)
            decay = decays["matrix" if x.ndim >= 2 else "vector"]
            return 0.5 * decay.astype(x.dtype) * jnp.sum(jnp.square(x))

        return sum(map(share, jax.tree.leaves(params)), jnp.zeros([]))

    def bind(
        theta: Theta, *, num_steps: Any = None
    ) -> optax.GradientTransformationExtraArgs:
        tx = baselines.BASELINES[baseline].build(
            num_steps=num_steps, learning_rate=learning_rate, **COUPLED[baseline]
        )
        return _penalised(tx, functools.partial(penalty, theta))

    return LearnedOptimizer(init, bind, penalty)


# Baselines without a decay of their own, and what lets theta be differentiated through
# them: the root of no gradient has no derivative, and 1e-30 is lost in any other.
COUPLED = {"sgdm": {}, "adam": {"eps_root": 1e-30}}


def _penalised(tx: Any, penalty: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` on the loss plus a penalty of params, in float32 or wider."""

    def update(grads, state, params=None, *, value=None, **extra):
        del value, extra  # of the loss alone
        if params is None:
            raise ValueError(
                "this rule decays the parameters: call update(..., params)."
            )
        wide = jax.tree.map(_wide, params)
        total = jax.tree.map(lambda g, d: _wide(g) + d, grads, jax.grad(penalty)(wide))
        updates, state = tx.update(total, state, wide)
        narrow = lambda u, g: u.astype(jnp.asarray(g).dtype)  # noqa: E731
        return jax.tree.map(narrow, updates, grads), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _wide(x: Any) -> jax.Array:
    """Returns an array, or a float of Python, in float32 or wider."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


RULES = {"mlp": mlp, "weight_decay": weight_decay}
PENALISED = ("weight_decay",)  # rules whose theta enters what is minimised


def build(name: str, **args: Any) -> LearnedOptimizer:
    """Returns the rule `name` of `RULES`.

    >>> build("mpl")
    Traceback (most recent call last):
    ValueError: unknown rule 'mpl'; known: mlp, weight_decay. Did you mean 'mlp'?
    """
    _known("rule", name, RULES)
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return RULES[name](**args)
