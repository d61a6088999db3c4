"""What a task is: pure functions from keys and arrays to losses."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

Key = jax.Array
Params = Any  # inner parameters
Data = Any  # a pytree of device arrays, passed as an argument, never closed over
Batch = Any
Draw = Any  # a pytree of arrays naming one task of a family
Aux = dict[str, jax.Array]
Split = Literal["train", "inner_valid", "outer_valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "inner_valid", "outer_valid", "test")


class Task(NamedTuple):
    """One optimization problem.

    Attributes:
      init: key -> params.
      loss: (params, key, batch) -> (scalar loss, aux); aux may hold `logits`.
      batch: (data, key, split) -> batch, drawn on the device; `split` is static.
      normalise: inner loss -> meta-loss, comparable across families.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Params, Key, Batch], tuple[jax.Array, Aux]]
    batch: Callable[[Data, Key, Split], Batch]
    normalise: Callable[[jax.Array], jax.Array]


class TaskFamily(NamedTuple):
    """A distribution of tasks that share one compiled program.

    Attributes:
      name: the family's name and its distinguishing settings.
      data: pytree of arrays, passed as an argument, never closed over.
      sample: key -> draw, the arrays that name one task.
      task: draw -> Task; cheap and pure, usable inside jit and vmap.
      shapes: pytree of `jax.ShapeDtypeStruct` of the parameters.
      base_shapes: the same at the base width, for `mup.infer`.
    """

    name: str
    data: Data
    sample: Callable[[Key], Draw]
    task: Callable[[Draw], Task]
    shapes: Params
    base_shapes: Params


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
