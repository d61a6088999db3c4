"""Learned optimizers as ordinary Optax transformations.

>>> import jax, jax.numpy as jnp, optax
>>> rule = build(
...     "mlp", hidden=4, layers=1, head="normalised", eps="relative",
...     time=("relative",), step_mult=1e-2, exp_mult=1e-3,
... )
>>> tx = rule.bind(rule.init(jax.random.key(0)), num_steps=100)
>>> params = {"w": jnp.ones([3, 2])}
>>> updates, state = tx.update(params, tx.init(params), params)
>>> optax.apply_updates(params, updates)["w"].shape
(3, 2)
"""

from lopt import mup
from lopt.baselines import BASELINES
from lopt.catalogue import load, read, released, verify
from lopt.rules import RULES, build

__all__ = ["BASELINES", "RULES", "build", "load", "mup", "read", "released", "verify"]
