"""One update of a run: the gradient, and what an optimizer is offered beside it."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from tasks import base
from tasks.base import Params, Task


def step(
    task: Task,
    tx: optax.GradientTransformationExtraArgs,
    eval_params: Callable[[Any, Params], Params] | None,
) -> Callable[..., Any]:
    """Returns the scan body: one update, and the loss before it."""

    def update(state, batch_and_key):
        ((params, carried), opt_state), (batch, key) = state, batch_and_key

        def value_fn(params):
            return base.loss(task, params, key, batch, carried)[0]

        value, new, grads = base.gradient(task, params, key, batch, carried)
        shown = value_fn(eval_params(opt_state, params)) if eval_params else value
        extra = offered(value, grads, value_fn)
        updates, opt_state = tx.update(grads, opt_state, params, **extra)
        return ((optax.apply_updates(params, updates), new), opt_state), shown

    return update


def offered(
    value: jax.Array, grads: Params, value_fn: Callable[[Params], jax.Array]
) -> dict[str, Any]:
    """Returns what updates may ask for, by the names that Optax's own have for it.

    Args:
      value: the loss that gradients are of.
      grads: of the parameters, by the tree of them.
      value_fn: params -> the loss on the same batch; it may be called with more.
    """

    # By name, as Optax's line searches refuse what no function of theirs takes.
    def loss(
        params: Params, *_: Any, obj_fn: Any = None, grad_fn: Any = None, **__: Any
    ) -> jax.Array:
        del obj_fn, grad_fn
        return value_fn(params)

    return {
        "value": value,
        "grad": grads,
        "value_fn": loss,
        "obj_fn": loss,
        "grad_fn": jax.grad(loss),
    }
