"""What a task is: pure functions from keys and arrays to losses."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Key = jax.Array
Params = Any  # inner parameters
Data = Any  # a pytree of device arrays, passed as an argument, never closed over
Batch = Any
Draw = Any  # a pytree of arrays naming one task of a family
State = Any  # what a task carries from step to step without its being optimized
Aux = dict[str, Any]
Split = Literal["train", "inner_valid", "outer_valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "inner_valid", "outer_valid", "test")


class Task(NamedTuple):
    """One optimization problem.

    Attributes:
      init: key -> params.
      loss: (params, key, batch) -> (scalar loss, aux). aux may hold `logits`, and
        `correct`, the share of predictions that are right, and `count`, how many
        examples the loss is a mean over, if not all of the batch. It is
        (params, key, batch, state) where a task carries state, and aux then holds
        `state`, the next one.
      batch: (data, key, split) -> batch, drawn on the device; `split` is static. With
        `index` it also takes what that returned, and does not draw it again.
      normalise: inner loss -> meta-loss, comparable across families.
      state: what is carried from step to step without being optimized, such as
        running statistics, at the start; a pytree of arrays, mostly empty.
      index: (data, key, split) -> indices of a batch's examples, where they depend on
        nothing else, so that those of many steps may be drawn at once; else None.
      gradient: (params, key, batch, state) -> (loss, state, gradient of the params)
        where it is not the gradient of `loss`, as under added noise; else None.
      evaluate: `loss` as on data that are not trained on, where that differs (running
        instead of batch statistics); else None.
    """

    init: Callable[[Key], Params]
    loss: Callable[..., tuple[jax.Array, Aux]]
    batch: Callable[..., Batch]
    normalise: Callable[[jax.Array], jax.Array]
    state: State = ()
    index: Callable[[Data, Key, Split], jax.Array] | None = None
    gradient: Callable[..., tuple[jax.Array, State, Params]] | None = None
    evaluate: Callable[..., tuple[jax.Array, Aux]] | None = None


class TaskFamily(NamedTuple):
    """A distribution of tasks that share one compiled program.

    Attributes:
      name: the family's name and its distinguishing settings.
      data: pytree of arrays, passed as an argument, never closed over.
      sample: key -> draw, the arrays that name one task.
      task: draw -> Task; cheap and pure, usable inside jit and vmap.
      shapes: pytree of `jax.ShapeDtypeStruct` of the parameters.
      base_shapes: the same at the base width, for `mup.infer`.
      outputs: (draw, params, batch) -> {layer: what it puts out}, for coordinate
        checks; None where there are no layers.
      stream: step -> the data of that inner step, of the shapes of `data`, where they
        are larger than memory; else None. Not inside jit.
      wider_shapes: `shapes` at twice the width, which shows what grows of a network of
        any width; None where there is none.
    """

    name: str
    data: Data
    sample: Callable[[Key], Draw]
    task: Callable[[Draw], Task]
    shapes: Params
    base_shapes: Params
    outputs: Callable[[Draw, Params, Batch], dict[str, jax.Array]] | None = None
    stream: Callable[[int], Data] | None = None
    wider_shapes: Params | None = None


def loss(
    task: Task, params: Params, key: Key, batch: Batch, state: State
) -> tuple[jax.Array, Aux]:
    """Returns the training loss and aux, which always holds the next `state`."""
    return _with_state(task.loss, params, key, batch, state)


def evaluate(
    task: Task, params: Params, key: Key, batch: Batch, state: State
) -> tuple[jax.Array, Aux]:
    """Returns loss and aux as on data that are not trained on."""
    return _with_state(task.evaluate or task.loss, params, key, batch, state)


def gradient(
    task: Task, params: Params, key: Key, batch: Batch, state: State
) -> tuple[jax.Array, State, Params]:
    """Returns the training loss, the next state and what an optimizer is given."""
    if task.gradient is not None:
        return task.gradient(params, key, batch, state)
    (value, aux), grads = jax.value_and_grad(
        lambda params: loss(task, params, key, batch, state), has_aux=True
    )(params)
    return value, aux["state"], grads


def _with_state(
    function: Callable[..., tuple[jax.Array, Aux]],
    params: Params,
    key: Key,
    batch: Batch,
    state: State,
) -> tuple[jax.Array, Aux]:
    if not jax.tree.leaves(state):
        value, aux = function(params, key, batch)
        return value, {**aux, "state": state}
    return function(params, key, batch, state)


def fixed(task: Task, *, name: str, data: Data, base_shapes: Params) -> TaskFamily:
    """Returns the family whose every draw is `task`."""
    return TaskFamily(
        name=name,
        data=data,
        sample=lambda key: (),
        task=lambda draw: task,
        shapes=jax.eval_shape(task.init, jax.random.key(0)),
        base_shapes=base_shapes,
    )


def normaliser(initial: Any, limit: float = 4.0) -> Callable[[jax.Array], jax.Array]:
    """Returns inner loss -> meta-loss: over the loss at init, clipped to [0, limit].

    Finite but huge losses of a diverging run would drown the others in an average.
    Non-finite losses stay so, that the run be masked and restarted.

    >>> [float(normaliser(2.0)(jnp.float32(x))) for x in (1, 100, float("inf"))]
    [0.5, 4.0, inf]
    """

    def normalise(loss: jax.Array) -> jax.Array:
        loss = loss / initial
        return jnp.where(jnp.isfinite(loss), jnp.clip(loss, 0.0, limit), loss)

    return normalise


def above(family: TaskFamily, floor: float) -> TaskFamily:
    """Returns the family whose meta-loss is 0 at a loss, and 1 at init as before.

    A family whose loss is mostly entropy would say little of how well it is trained.

    Args:
      family: its meta-losses are proportional to losses, as those of `normaliser`.
      floor: a loss that is hardly ever below; below it the meta-loss is 0.
    """

    def task(draw: Draw) -> Task:
        plain = family.task(draw)
        least = plain.normalise(jnp.asarray(floor, float))

        def normalise(loss: jax.Array) -> jax.Array:
            return jnp.maximum(0.0, (plain.normalise(loss) - least) / (1 - least))

        return plain._replace(normalise=normalise)

    return family._replace(task=task)


def log_uniform(
    key: Key, low: float, high: float, shape: tuple[int, ...] = (), dtype: Any = float
) -> jax.Array:
    """Returns numbers of [low, high], uniform in logarithm; exact if these meet."""
    return low * (high / low) ** jax.random.uniform(key, shape, dtype)
