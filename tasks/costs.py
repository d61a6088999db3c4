"""What a step of a task costs: parameters, floating-point operations, seconds."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tasks.base import TaskFamily, gradient

# Primitives that move numbers and compute none.
MOVES = {
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "pad",
    "reshape",
    "rev",
    "select_n",
    "slice",
    "split",
    "squeeze",
    "stop_gradient",
    "transpose",
}


EACH, PER_EQUATION = 0.2, 1.5e-3  # seconds that compiling takes


class Cost(NamedTuple):
    """What a task costs: parameters, operations and median seconds of a step."""

    params: int
    flops: int
    seconds: float


class BatchSize(NamedTuple):
    """How much a training batch holds.

    Attributes:
      examples: None where batches hold none, as those of a quadratic.
      tokens: those that are predicted; None where an example has one label.
    """

    examples: int | None
    tokens: int | None


def batch_size(family: TaskFamily) -> BatchSize:
    """Returns how much a training batch holds; traces, but compiles nothing.

    Examples are the first axis of "input". Tokens are labels that are integers, of
    which text has several an example.
    """

    def drawn(key: jax.Array, data: Any) -> Any:
        return family.task(family.sample(key)).batch(data, key, "train")

    batch = jax.eval_shape(drawn, jax.random.key(0), family.data)
    if not isinstance(batch, Mapping) or "input" not in batch:
        return BatchSize(None, None)
    tokens = None
    if "label" in batch and batch["label"].ndim > 1:
        label = batch["label"]
        tokens = label.size if jnp.issubdtype(label.dtype, jnp.integer) else None
    return BatchSize(len(batch["input"]), tokens)


def cost(family: TaskFamily, *, repeats: int = 10) -> Cost:
    """Returns what loss and gradient of a step cost, the optimizer's work apart."""

    def step(draw, params, state, key, data):
        task = family.task(draw)
        return gradient(task, params, key, task.batch(data, key, "train"), state)

    draw = jax.jit(family.sample)(jax.random.key(0))
    task = family.task(draw)
    model = draw, jax.jit(task.init)(jax.random.key(1)), task.state
    compiled, times = jax.jit(step), []
    for key in jax.random.split(jax.random.key(2), repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*model, key, family.data))
        times.append(time.perf_counter() - began)
    return Cost(
        params=sum(math.prod(x.shape) for x in jax.tree.leaves(family.shapes)),
        flops=flops(step, *model, jax.random.key(0), family.data),
        seconds=statistics.median(times[1:]),
    )


def flops(function: Callable[..., Any], *args: Any) -> int:
    """Returns the floating-point operations of a call, as it is written.

    A product and sum of a matrix product or convolution are two; every other operation
    is one for each number it makes or, in a reduction, takes. Bodies of scans count as
    often as they run, of branches the costliest, and of loops of unknown length once.
    Compilers count such bodies once.

    >>> a, b = jnp.ones((2, 3)), jnp.ones((3, 5))
    >>> flops(lambda: jnp.tanh(a @ b))
    70
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def compiling(*programs: Any) -> str:
    """Returns how many programs these are and about how long compiling them takes.

    Seconds go with the length of programs, as measured on two cores; what is in a
    compilation cache takes next to none.

    Args:
      programs: from `jax.make_jaxpr`, or traced by `jax.jit`; at least one.

    >>> compiling(jax.make_jaxpr(lambda x: x + 1)(0))
    '1 program, about 1 s'
    """
    seconds = sum(EACH + PER_EQUATION * equations(x.jaxpr) for x in programs)
    plural = "s" if len(programs) > 1 else ""
    return f"{len(programs)} program{plural}, about {max(1, round(seconds))} s"


def equations(jaxpr: Any) -> int:
    """Returns how long a program is: its equations, and those of what it calls."""
    lines = getattr(jaxpr, "jaxpr", jaxpr).eqns
    return sum(1 + sum(map(equations, _jaxprs(line.params))) for line in lines)


def _of_jaxpr(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    """Returns the operations of one line of a program."""
    name, given = equation.primitive.name, equation.params
    inner = [_of_jaxpr(jaxpr) for jaxpr in _jaxprs(given)]
    if name == "scan":
        return given["length"] * inner[0]
    if name == "cond":
        return max(inner)
    if inner:
        return sum(inner)
    out = equation.outvars[0].aval
    if name in MOVES or not jnp.issubdtype(out.dtype, jnp.floating):
        return 0
    shapes = [x.aval.shape for x in equation.invars]
    if name == "dot_general":
        (contracted, _), _ = given["dimension_numbers"]
        return 2 * out.size * math.prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, features = shapes[1], given["dimension_numbers"].rhs_spec[0]
        return 2 * out.size * math.prod(kernel) // kernel[features]
    return max(out.size, math.prod(shapes[0])) if shapes else 0


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """Yields the programs that a line calls."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else [value]:
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
