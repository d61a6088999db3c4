"""Families wrapped: other coordinates, and gradients that are worse than exact.

Every wrapper takes a family and returns one, so that they nest. What an optimizer is
given changes; the losses that are measured stay those of the wrapped family.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from common.names import known
from tasks import base
from tasks.base import Key, Params, Task, TaskFamily
from tasks.wrappers import gradients


def reparametrised(
    family: TaskFamily, *, scale: tuple[float, float], per: str
) -> TaskFamily:
    """Returns the family of which an optimizer sees the parameters divided by s.

    Gradients are multiplied by s: SGD with rate a is SGD with rate a s^2 on the wrapped
    task. So rules meet parameters and gradients of many scales (arXiv:2211.09760).

    Args:
      family: to wrap.
      scale: bounds of s, log-uniform, drawn with the task.
      per: whether there is one s for "all" parameters, one for each "tensor" or one
        for each "parameter".

    Raises:
      ValueError: for an empty range, or another `per`.
    """
    gradients.check_range("scale", scale)
    known("per", per, ("all", "tensor", "parameter"))
    return gradients.with_draw(
        family,
        f"reparametrised-{per}-{scale[0]:g}-{scale[1]:g}",
        sampler=lambda key: _scales(key, family.shapes, scale, per),
        alter=_reparametrised,
        seen=_times,
    )


AUGMENTATIONS = {
    "bfloat16_gradient": gradients.bfloat16_gradient,
    "delayed_gradient": gradients.delayed_gradient,
    "es_gradient": gradients.es_gradient,
    "noisy_gradient": gradients.noisy_gradient,
    "reparametrised": reparametrised,
    "smaller_batch": gradients.smaller_batch,
}


def wrap(family: TaskFamily, augmentations: Sequence[Mapping[str, Any]]) -> TaskFamily:
    """Returns the family wrapped by each augmentation, the first innermost.

    Args:
      family: to wrap.
      augmentations: dicts of "name", in `AUGMENTATIONS`, and "args", where lists stand
        for tuples. Their order matters: noise on rounded gradients is not rounded.

    Raises:
      ValueError: for another name, or args that are not those of the augmentation or
        that it refuses.
    """
    for augmentation in augmentations:
        _check_names("part of an augmentation", augmentation, ("name", "args"))
        name = known("augmentation", augmentation["name"], AUGMENTATIONS)
        args = {
            k: tuple(v) if isinstance(v, list) else v
            for k, v in augmentation["args"].items()
        }
        _check_args(name, args)
        family = AUGMENTATIONS[name](family, **args)
    return family


def _check_names(what: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises ValueError unless all of `names`, and no others, are given."""
    for name in given:
        known(what, name, names)
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"missing {what}: {', '.join(missing)}; got {dict(given)}.")


def _check_args(name: str, args: Mapping[str, Any]) -> None:
    """Raises ValueError unless args are an augmentation's, and of their types."""
    parameters = inspect.signature(AUGMENTATIONS[name]).parameters
    kinds = {k: p.annotation for k, p in parameters.items() if k != "family"}
    _check_names(f"argument of {name}", args, list(kinds))
    for arg, kind in kinds.items():
        if not _fits(args[arg], kind):
            wanted = inspect.formatannotation(kind)
            raise ValueError(f"{arg} of {name} must be {wanted}, got {args[arg]!r}.")


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a value is of a type; ints are floats."""
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(map(_fits, value, kinds))
        )
    return isinstance(value, (int, float) if kind is float else kind)


def _times(scale: Params, params: Params) -> Params:
    return jax.tree.map(jnp.multiply, scale, params)


def _scales(key: Key, shapes: Params, scale: tuple[float, float], per: str) -> Params:
    """Returns a tree like `shapes` of what each leaf is multiplied by."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = [key] * len(leaves) if per == "all" else jax.random.split(key, len(leaves))

    def drawn(key: Key, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        shape = leaf.shape if per == "parameter" else ()
        return base.log_uniform(key, *scale, shape, leaf.dtype)

    return structure.unflatten(map(drawn, keys, leaves))


def _reparametrised(task: Task, scale: Params) -> Task:
    """Returns the task whose parameters are to be multiplied by `scale`."""

    def init(key: Key) -> Params:
        return jax.tree.map(jnp.divide, task.init(key), scale)

    def at_scale(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda params, *args: function(_times(scale, params), *args)

    def gradient(params, *args):
        value, state, grads = at_scale(task.gradient)(params, *args)
        return value, state, _times(scale, grads)

    return task._replace(
        init=init,
        loss=at_scale(task.loss),
        gradient=task.gradient and gradient,
        evaluate=task.evaluate and at_scale(task.evaluate),
    )
