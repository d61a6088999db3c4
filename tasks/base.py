"""What a task is: pure functions from keys and arrays to losses."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

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


def log_uniform(key: Key, low: float, high: float) -> jax.Array:
    """Returns a scalar of [low, high], uniform in its logarithm; exact if they meet."""
    return low * (high / low) ** jax.random.uniform(key)


def known(what: str, name: str, names: Iterable[str]) -> str:
    """Returns `name` if it is one of `names`.

    Raises:
      ValueError: otherwise, listing them and the nearest.

    >>> known("family", "mpl", ["quadratic", "mlp"])
    Traceback (most recent call last):
    ValueError: unknown family 'mpl'; known: mlp, quadratic. Did you mean 'mlp'?
    """
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, 1, cutoff=0)
    raise ValueError(
        f"unknown {what} {name!r}; known: {', '.join(sorted(names))}. "
        f"Did you mean {near[0]!r}?"
    )
