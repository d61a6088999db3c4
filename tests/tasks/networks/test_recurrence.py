"""How recurrent kernels start, gate by gate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.networks import recurrence

every_cell = pytest.mark.parametrize("cell", recurrence.CELLS)


def test_each_gate_starts_orthogonal():
    module = recurrence.Recurrence(6, "gru", "standard")
    kernel = module.init(jax.random.key(0), jnp.ones((1, 2, 18)))["params"]["kernel"]
    gates = np.split(np.asarray(kernel), 3, 1)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(6), atol=1e-5)
    assert not np.allclose(gates[0], gates[1])


@every_cell
@pytest.mark.parametrize("width", [64, 256])
def test_recurrent_kernels_start_with_one_over_the_root_of_width(cell, width):
    gates = recurrence.CELLS[cell].gates * width
    module = recurrence.Recurrence(width, cell)
    params = module.init(jax.random.key(0), jnp.zeros((1, 1, gates)))["params"]
    kernel = np.asarray(params["kernel"])
    assert kernel.shape == (width, gates)
    # Of n numbers the deviation is known to 1/sqrt(2 n), here to a percent.
    np.testing.assert_allclose(kernel.std(), width**-0.5, rtol=0.03)
