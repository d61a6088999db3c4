"""Families whose gradients are worse than exact: noisy, rounded, estimated or late.

Every wrapper takes a family and returns one, so that they nest. A wrapper folds its
family's name into the key for what is drawn anew at each step; the wrapped task is
given the key itself, so that losses stay those of the wrapped family, digit for digit.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from tasks import base
from tasks.base import Batch, Draw, Key, Params, Task, TaskFamily


def noisy_gradient(family: TaskFamily, *, noise: tuple[float, float]) -> TaskFamily:
    """Returns the family with Gaussian noise added to each tensor's gradient.

    Args:
      family: to wrap.
      noise: bounds of its standard deviation over the root mean square of the tensor's
        gradient; log-uniform, drawn with the task.

    Raises:
      ValueError: for an empty range.
    """
    check_range("noise", noise)

    def gradient(task, level, params, key, batch, state):
        value, state, grads = base.gradient(task, params, key, batch, state)
        return value, state, _noised(_own(key, family), grads, level)

    def alter(task: Task, level: jax.Array) -> Task:
        return task._replace(gradient=functools.partial(gradient, task, level))

    return with_draw(
        family,
        f"noisy-{noise[0]:g}-{noise[1]:g}",
        sampler=lambda key: base.log_uniform(key, *noise),
        alter=alter,
        seen=lambda level, params: params,
    )


def smaller_batch(family: TaskFamily, *, batch_size: int) -> TaskFamily:
    """Returns the family whose gradients are those on the first examples of a batch.

    Losses are measured on the whole batch, which takes a forward pass more where
    anybody looks at them.

    Args:
      family: to wrap; its batches are dicts that hold "input", examples first.
      batch_size: how many examples, at most those of a batch.

    Raises:
      ValueError: if batches do not have as many examples.
    """
    _check_examples(family, batch_size)

    def gradient(task, params, key, batch, state):
        value, _ = base.loss(task, params, key, batch, state)
        few = jax.tree.map(lambda x: x[:batch_size], batch)
        _, state, grads = base.gradient(task, params, key, few, state)
        return value, state, grads

    return _with_gradient(family, f"first{batch_size}", gradient)


def bfloat16_gradient(family: TaskFamily) -> TaskFamily:
    """Returns the family whose gradients are rounded to bfloat16; their dtype stays.

    They are exact float32 gradients until then: a pass in bfloat16 would lose more.
    Order matters: what wraps this family is given rounded gradients, and may put out
    others.
    """

    def rounded(x: jax.Array) -> jax.Array:
        # XLA may leave out a cast there and back.
        return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)

    def gradient(task, params, key, batch, state):
        value, state, grads = base.gradient(task, params, key, batch, state)
        return value, state, jax.tree.map(rounded, grads)

    return _with_gradient(family, "bfloat16", gradient)


def es_gradient(family: TaskFamily, *, sigma: float, pairs: int) -> TaskFamily:
    """Returns the family with an estimate by evolution strategies as gradient.

    It is the mean over antithetic pairs of e (L(p + sigma e) - L(p - sigma e)) /
    (2 sigma), e ~ N(0, I), that of a smoothed loss (arXiv:1703.03864); batch and key
    are shared. A step costs 2 pairs + 1 forward passes, and none backward.

    Args:
      family: to wrap; its gradient must be exact, so that of the wrappers of gradients
        this one comes first.
      sigma: standard deviation of a parameter's perturbation, > 0.
      pairs: of perturbations, >= 1.

    Raises:
      ValueError: for a sigma or pairs out of range, or a gradient that is not exact.
    """
    if sigma <= 0 or pairs < 1:
        raise ValueError(f"need sigma > 0 and pairs >= 1, got {sigma=} and {pairs=}.")
    if family.task(family.sample(jax.random.key(0))).gradient is not None:
        raise ValueError(
            f"es_gradient takes the place of an exact gradient, which {family.name} "
            f"does not have; put it before other augmentations of gradients."
        )

    def gradient(task, params, key, batch, state):
        flat, unravel = ravel_pytree(params)

        def loss(flat: jax.Array) -> tuple[jax.Array, base.Aux]:
            return base.loss(task, unravel(flat), key, batch, state)

        def estimate(noise_key: Key) -> jax.Array:
            e = jax.random.normal(noise_key, flat.shape, flat.dtype)
            ahead, behind = loss(flat + sigma * e)[0], loss(flat - sigma * e)[0]
            return e * (ahead - behind) / (2 * sigma)

        value, aux = loss(flat)
        noise_keys = jax.random.split(_own(key, family), pairs)
        estimates = jax.vmap(estimate)(noise_keys)
        return value, aux["state"], unravel(estimates.mean(0).astype(flat.dtype))

    return _with_gradient(family, f"es{pairs}-{sigma:g}", gradient)


def delayed_gradient(family: TaskFamily, *, delay: int) -> TaskFamily:
    """Returns the family whose gradients come late, as from asynchronous workers.

    The task's state is {"inner": the wrapped one, "queue": the last `delay` gradients,
    oldest first}; the queue starts at zeros.

    Args:
      family: to wrap.
      delay: steps, >= 1.

    Raises:
      ValueError: for a delay out of range.
    """
    if delay < 1:
        raise ValueError(f"delay must be at least 1, got {delay=}.")

    def task(draw: Draw) -> Task:
        inner = family.task(draw)
        zeros = jax.tree.map(
            lambda x: jnp.zeros([delay, *x.shape], x.dtype), family.shapes
        )
        return inner._replace(
            loss=functools.partial(_unwrapped, base.loss, inner),
            state={"inner": inner.state, "queue": zeros},
            gradient=functools.partial(_delayed, inner),
            evaluate=functools.partial(_unwrapped, base.evaluate, inner),
        )

    return family._replace(name=f"{family.name}-delayed{delay}", task=task)


def _with_gradient(
    family: TaskFamily, how: str, gradient: Callable[..., Any]
) -> TaskFamily:
    """Returns the family of gradients `gradient(task, ...)`, named after `how`."""

    def task(draw: Draw) -> Task:
        inner = family.task(draw)
        return inner._replace(gradient=functools.partial(gradient, inner))

    return family._replace(name=f"{family.name}-{how}", task=task)


def _own(key: Key, family: TaskFamily) -> Key:
    """Returns a key for what a wrapper draws itself, unlike those of its likes within.

    Wrappers of wrappers wrap families of other names.
    """
    return jax.random.fold_in(key, zlib.crc32(family.name.encode()))


def with_draw(
    family: TaskFamily,
    how: str,
    *,
    sampler: Callable[[Key], Draw],
    alter: Callable[[Task, Draw], Task],
    seen: Callable[[Draw, Params], Params],
) -> TaskFamily:
    """Returns the family of draws {"inner", "own"}, named after `how`.

    `seen` gives the parameters of the wrapped task.
    """

    def sample(key: Key) -> Draw:
        inner_key, own_key = jax.random.split(key)
        return {"inner": family.sample(inner_key), "own": sampler(own_key)}

    def outputs(draw: Draw, params: Params, batch: Batch) -> dict[str, jax.Array]:
        return family.outputs(draw["inner"], seen(draw["own"], params), batch)

    return family._replace(
        name=f"{family.name}-{how}",
        sample=sample,
        task=lambda draw: alter(family.task(draw["inner"]), draw["own"]),
        outputs=family.outputs and outputs,
    )


def _noised(key: Key, grads: Params, level: jax.Array) -> Params:
    """Returns gradients with noise of `level` times each leaf's root mean square."""
    leaves, structure = jax.tree.flatten(grads)

    def noised(key: Key, g: jax.Array) -> jax.Array:
        rms = optax.safe_root_mean_squares(g, 0.0)  # its slope at 0 is not NaN
        z = jax.random.normal(key, g.shape, g.dtype)
        return g + (level * rms).astype(g.dtype) * z

    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(map(noised, keys, leaves))


def _unwrapped(measure, task, params, key, batch, state):
    """Returns loss and aux of a delayed task, measured as `base.loss` or another."""
    value, aux = measure(task, params, key, batch, state["inner"])
    return value, {**aux, "state": {**state, "inner": aux["state"]}}


def _delayed(task, params, key, batch, state):
    """Returns the oldest gradient of the queue, which the newest joins."""
    value, inner, grads = base.gradient(task, params, key, batch, state["inner"])
    queue = jax.tree.map(
        lambda old, new: jnp.concatenate([old, new[None]]), state["queue"], grads
    )
    rest, oldest = (
        jax.tree.map(lambda x, at=at: x[at], queue) for at in (slice(1, None), 0)
    )
    return value, {"inner": inner, "queue": rest}, oldest


def _check_examples(family: TaskFamily, batch_size: int) -> None:
    """Raises ValueError unless training batches have as many examples."""

    def draw_batch(key: Key, data: base.Data) -> Batch:
        return family.task(family.sample(key)).batch(data, key, "train")

    batch = jax.eval_shape(draw_batch, jax.random.key(0), family.data)
    if not isinstance(batch, Mapping) or "input" not in batch:
        raise ValueError(f"batches of {family.name} have no examples to choose from.")
    examples = len(batch["input"])
    if not 1 <= batch_size <= examples:
        raise ValueError(
            f"need 1 <= batch_size <= {examples}, the examples in a batch of "
            f"{family.name}, got {batch_size=}."
        )


def check_range(what: str, bounds: tuple[float, float]) -> None:
    """Raises ValueError unless bounds are positive and in order."""
    if not 0 < bounds[0] <= bounds[1]:
        raise ValueError(f"need 0 < low <= high of {what}, got {what}={bounds}.")
