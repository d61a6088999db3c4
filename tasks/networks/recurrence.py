"""Recurrent cells, and the scan over time that they share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

States = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """How one step of a recurrent network is taken.

    Attributes:
      gates: how many units are computed per unit of width, g.
      states: how many arrays [n, width] are carried from step to step, zero at first;
        the first is the output.
      step: (kernel [width, g width], states, what inputs give to the gates
        [n, g width]) -> next states.
    """

    gates: int
    states: int
    step: Callable[[jax.Array, States, jax.Array], States]


def lstm(kernel: jax.Array, states: States, gates: jax.Array) -> States:
    """Returns the next hidden and cell state (arXiv:1402.1128, no peepholes).

    Args:
      kernel: [width, 4 width], of the hidden state.
      states: hidden and cell state, [n, width] each.
      gates: [n, 4 width], what inputs give: to enter, to forget, new, to leave.
    """
    hidden, cell = states
    enter, forget, new, leave = jnp.split(gates + hidden @ kernel, 4, -1)
    cell = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(new)
    return nn.sigmoid(leave) * jnp.tanh(cell), cell


def gru(kernel: jax.Array, states: States, gates: jax.Array) -> States:
    """Returns the next hidden state (arXiv:1406.1078, reset after the product).

    Args:
      kernel: [width, 3 width], of the hidden state.
      states: the hidden state [n, width], alone.
      gates: [n, 3 width], what inputs give: to reset, to keep, new.
    """
    (hidden,) = states
    gates, carried = jnp.split(gates, [2 * hidden.shape[-1]], -1), hidden @ kernel
    carried = jnp.split(carried, [2 * hidden.shape[-1]], -1)
    reset, keep = jnp.split(nn.sigmoid(gates[0] + carried[0]), 2, -1)
    new = jnp.tanh(gates[1] + reset * carried[1])
    return ((1 - keep) * new + keep * hidden,)


def vanilla(kernel: jax.Array, states: States, gates: jax.Array) -> States:
    """Returns the next hidden state, without a gate (Elman, Cognitive Science 1990).

    Args:
      kernel: [width, width], of the hidden state.
      states: the hidden state [n, width], alone.
      gates: [n, width], what inputs give.
    """
    (hidden,) = states
    return (jnp.tanh(gates + hidden @ kernel),)


POLAR_STEPS = 40  # singular values of 1e-6 of the largest come to 1
CELLS = {
    "lstm": Cell(4, 2, lstm),
    "gru": Cell(3, 1, gru),
    "vanilla": Cell(1, 1, vanilla),
}


class Recurrence(nn.Module):
    """The recurrent half of a layer: its kernel, and the scan over time.

    Attributes:
      width: units.
      cell: a name in `CELLS`.
      parametrization: "mup": weights start normal, of standard deviation width^-1/2;
        "standard": orthogonal, gate by gate.
    """

    width: int
    cell: str
    parametrization: str = "mup"

    @nn.compact
    def __call__(self, gates: Float[Array, "n t gates"]) -> Float[Array, "n t width"]:
        """Returns the outputs, of what inputs give to the gates at each time."""
        inits = {
            "mup": nn.initializers.normal(self.width**-0.5, gates.dtype),
            "standard": _orthogonal,
        }
        shape = (self.width, gates.shape[-1])
        kernel = self.param("kernel", inits[self.parametrization], shape, gates.dtype)
        cell = CELLS[self.cell]

        def step(states: States, gates: jax.Array) -> tuple[States, jax.Array]:
            states = cell.step(kernel, states, gates)
            return states, states[0]

        zero = jnp.zeros((len(gates), self.width), gates.dtype)
        _, outputs = jax.lax.scan(step, (zero,) * cell.states, gates.swapaxes(0, 1))
        return outputs.swapaxes(0, 1)


def _orthogonal(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Returns [width, g width], g random orthogonal matrices side by side.

    Each is the orthogonal polar factor of a normal matrix, by Newton and Schulz's
    iteration. LAPACK's decompositions would be independent parts of one program, and
    where two of these run at once JAX 0.10 hangs on CPUs of two cores.
    """
    width, columns = shape
    x = jax.random.normal(key, (columns // width, width, width), dtype)
    x = x / jnp.linalg.norm(x, axis=(1, 2), keepdims=True)
    x = jax.lax.fori_loop(0, POLAR_STEPS, lambda _, x: 1.5 * x - x @ x.mT @ x / 2, x)
    return jnp.concatenate([*x], -1)
