"""Updates of tensors: a large one in tiles, small ones together."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.shard_alike import shard_alike

from lopt.rules import (
    features,
    groups,
    heads,
    history,
    kernel,
    network,
    settings,
    tiles,
)
from lopt.rules.groups import Group
from lopt.rules.history import History
from lopt.rules.layout import Layout
from lopt.rules.network import Start
from lopt.rules.seen import Call, Joined, Seen, Weights
from lopt.rules.settings import Settings
from lopt.types import Array, Features, Theta


def updated(
    call: Call, grads: list[Array], params: list[Array], pasts: list[History]
) -> tuple[list[Array], list[History]]:
    """Returns the updates and the new histories of all tensors, each [*p]."""
    traced, how = settings.traced(call.how), settings.static(call.how)
    matrices = sum(p.ndim >= 2 for p in params)
    way = tiles.limit(), kernel.mode()
    updates, pasts = [jnp.zeros_like(p) for p in params], list(pasts)
    # Joined units of a wide layer would not fit the cache.
    joined = network.unrolled(call.theta["network"])
    for part in groups.parts(params, joined=joined):
        some = [groups.stacked(indices, grads, params, pasts) for indices in part]
        ndims, arrays = tuple(g.ndim for g in some), [g[:3] for g in some]
        pairs = _updated(way, how, matrices, ndims, traced, call[1:4], arrays)
        for indices, pair in zip(part, pairs, strict=True):
            each = groups.unstacked(pair, len(indices))
            for i, (update, past) in zip(indices, each, strict=True):
                updates[i], pasts[i] = update.astype(params[i].dtype), past
                if len(part) > 1:  # one that was joined with others
                    updates[i] = shard_alike(updates[i], params[i])[0]
    return updates, pasts


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _updated(
    way: tuple[int, str],
    how: Settings,
    matrices: int,
    ndims: tuple[int, ...],
    traced: dict[str, Any],
    rest: tuple,
    arrays: list[tuple],
) -> list[tuple[Array, History]]:
    """Returns updates and new histories of a group, or of several small ones.

    Several go through the network together. Those of equal shapes are traced once.

    Args:
      way: how it is done, which else a trace from before might not show.
      how: settings, those of `traced` without a meaning.
      matrices: tensors of two axes or more in the model.
      ndims: of one tensor of each group.
      traced: settings that are traced.
      rest: of `Call`, between `how` and `matrices`.
      arrays: gradients, parameters and histories of each group.
    """
    del way
    theta, time, filled = rest
    call = Call(how._replace(**traced), theta, time, filled, matrices)
    how, decays = call.how, call.theta["decays"]
    together = [
        Group(grad, param, history.update(decays, grad, past, how.axes, ndim), ndim)
        for (grad, param, past), ndim in zip(arrays, ndims, strict=True)
    ]
    relative = how.eps == "relative"
    given = [
        features.given(g.param, g.past, relative=relative, axes=how.axes, ndim=g.ndim)
        for g in together
    ]
    weights = Weights(call.theta["network"], call.filled, settings.traced(how))
    if len(together) == 1:
        (group,) = together
        seen = _seen(call, group, *given)
        made = [_mapped(settings.static(how), _inputs, weights, seen, group.grad)]
    else:
        made = _together(call, weights, together, given)
    updates = (
        _finished(how, call.filled, *x) for x in zip(together, made, strict=True)
    )
    return [(x, g.past) for x, g in zip(updates, together, strict=True)]


def _seen(call: Call, group: Group, given: features.Given, known: Any = None) -> Seen:
    """Returns what the network sees of a tensor; `known` as in `mean_squares`."""
    grad, ndim = group.grad, group.ndim
    squares = features.mean_squares(grad, given, ndim, known)
    constant = call.time.astype(given.history.second.dtype)
    constant = constant.reshape(-1, *[1] * grad.ndim)
    if call.how.signal:
        signals = features.signal(squares, given, call.filled, call.matrices, ndim)
        same = jnp.broadcast_to(constant, (len(constant), *signals.shape[1:]))
        constant = jnp.concatenate([same, signals])
    still = None
    if settings.head_of(call.how).scale:  # in one pass, where NaN is no zero
        still = jnp.max(jnp.abs(grad), tuple(range(-ndim, 0)), keepdims=True) == 0
    return Seen(given, features.scales(squares), constant, still)


def _together(
    call: Call, weights: Weights, together: list[Group], given: list[features.Given]
) -> list[Array]:
    """Returns what `_mapped` returns of each of some small tensors."""
    how, grads = call.how, [g.grad for g in together]
    layout = Layout([g.shape for g in grads], [g.ndim for g in together])
    each = [features.parts(*x) for x in zip(grads, given, strict=True)]
    parts = jax.tree.map(lambda *x: layout.join(x), *each)
    squares = layout.means([jnp.square(x) for x in features.full(parts)])
    seen = [_seen(call, *x) for x in zip(together, given, squares, strict=True)]
    starts = [_start(how, weights, x) for x in seen]
    start = jax.tree.map(lambda *x: layout.join(x), *starts)
    scales = layout.spread([x.scales.full for x in seen])
    still = None
    if seen[0].still is not None:
        still = layout.spread([x.still for x in seen])
    joined = Joined(parts, scales, start, still)
    grad = layout.join(grads).astype(parts.grad.dtype)
    made = _mapped(settings.static(how), _joined_inputs, weights, joined, grad)
    return layout.split(made)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _mapped(
    how: Settings, inputs: Any, weights: Weights, seen: Any, grad: Array
) -> Array:
    """Returns what the head makes of each entry, in the gradient's place.

    Updates of a head that is local, directions of one that scales them; else the
    network's outputs, [outputs, *p]. Derivatives are those of the network by products.

    Args:
      how: settings, those of `weights.traced` without a meaning.
      inputs: `_inputs` or `_joined_inputs`.
      weights: of the rule.
      seen: what `inputs` takes.
      grad: gradient, or those of several tensors in an array of `Layout`.
    """
    least, units = (2, 1) if network.unrolled(weights.net) else (1, how.hidden)
    return _by(how, inputs, network.apply, least, units, weights, seen, grad)


@_mapped.defjvp
def _mapped_jvp(how: Settings, inputs: Any, primals: tuple, tangents: tuple) -> tuple:
    plain = functools.partial(_by, how, inputs, network.by_products, 1, how.hidden)
    return jax.jvp(plain, primals, tangents)


def _by(
    how: Settings,
    inputs: Any,
    apply: Any,
    least: int,
    units: int,
    weights: Weights,
    seen: Any,
    grad: Array,
) -> Array:
    """Returns what `_mapped` does, by one way to apply the network."""

    def function(weights: Weights, seen: Any, grad: Array) -> Array:
        now = how._replace(**weights.traced)
        made = _made(now, apply, weights.net, inputs(now, weights, seen, grad), grad)
        return made if seen.still is None else jnp.where(seen.still, 0, made)

    if not (settings.head_of(how).local or settings.head_of(how).scale):
        return function(weights, seen, grad)
    mapped = functools.partial(tiles.mapped, function, weights, seen, grad)
    return mapped(least=least, units=units, apart=inputs is _inputs, later=True)


def _inputs(
    how: Settings, weights: Weights, seen: Seen, grad: Array
) -> tuple[list, Start, Any]:
    """Returns inputs that vary by entry, start of the first layer, and Adam's step."""
    full = features.full(features.parts(grad, seen.given))
    start = _start(how, weights, seen)
    return _normalised(how, weights, full, seen.scales.full, start)


def _joined_inputs(
    how: Settings, weights: Weights, seen: Joined, grad: Array
) -> tuple[list, Start, Any]:
    """Returns what `_inputs` does, of several tensors."""
    full = features.full(seen.parts)
    return _normalised(how, weights, full, seen.scales, seen.start)


def _normalised(
    how: Settings, weights: Weights, full: list, scales: Array, start: Start
) -> tuple[list, Start, Any]:
    """Returns what `_inputs` does, of inputs that are not normalised."""
    adam = None
    if how.nominal:
        filled = weights.filled
        unbiased = jnp.sqrt(filled["rms"][0]) / filled["momentum"][0]
        adam = unbiased.astype(full[0].dtype) * full[features.ADAM]
    pairs = zip(full, scales, strict=True)
    return [features.normalised(*x, how.clip) for x in pairs], start, adam


def _start(how: Settings, weights: Weights, seen: Seen) -> Start:
    """Returns what the first layer makes of inputs that do not vary by entry."""
    pairs = zip(features.lines(seen.given), seen.scales[1:3], strict=True)
    row, col = (features.normalised(*x, how.clip) for x in pairs)
    return network.first(weights.net, Features([], row, col, seen.constant))


def _made(how: Settings, apply: Any, net: Theta, inputs: tuple, grad: Array) -> Array:
    """Returns what the head makes of some entries, by one way to apply the network."""
    full, start, adam = inputs
    outputs = apply(net, full, start)
    if how.nominal:
        outputs = [outputs[0] + how.nominal * adam, *outputs[1:]]
    head = settings.head_of(how)
    if head.scale:
        return outputs[0]
    if head.local:
        grad = grad.astype(outputs[0].dtype)
        return head.update(outputs, grad, **settings.mults(how))
    return jnp.stack(outputs)


def _finished(how: Settings, filled: Theta, group: Group, made: Array) -> Array:
    """Returns the updates, by what the head makes of each entry: scaled and bounded."""
    grad, head, scale = group.grad, settings.head_of(how), None
    if head.scale:
        scale = head.scale(made, group.ndim, **settings.mults(how))
    elif not head.local:
        update = functools.partial(head.update, **settings.mults(how))
        if grad.ndim > group.ndim:  # a head takes one tensor
            update = jax.vmap(update, (1, 0))
        made = update(made, grad.astype(made.dtype))

    if scale is None and how.bound is None:
        return made
    most = None
    if how.bound is not None:
        most = jnp.asarray(how.bound * how.step_mult, made.dtype)

    def function(whole: Any, tiled: Any, made: Any) -> Array:
        (filled, most), (past, scale) = whole, tiled
        made = made if scale is None else scale * made
        if most is None:
            return made
        return heads.bounded(made, past, filled, most=most)

    return tiles.mapped(function, (filled, most), (group.past, scale), made)
