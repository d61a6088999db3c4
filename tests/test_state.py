"""State is made from parameters: its leaves lie, vary and are named as they do."""

import jax
import jax.numpy as jnp
import optax
from optimizers import PARAMS, RULES, build


def test_averages_mirror_parameters_in_structure_and_rank():
    state = build(next(iter(RULES))).init(PARAMS)
    names = {name: jnp.zeros([1] * x.ndim) for name, x in PARAMS.items()}
    init = build(next(iter(RULES))).init
    mapped = optax.tree_map_params(
        init, lambda x, name: x.ndim - name.ndim, state, names
    )
    assert len(jax.tree.leaves(mapped.history)) == 10 * len(PARAMS)
    assert not any(jax.tree.leaves(mapped.history))
