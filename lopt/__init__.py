"""Learned optimizers as ordinary Optax transformations.

>>> import jax.numpy as jnp, lopt, optax
>>> tx = lopt.load("demo", num_steps=200)
>>> params = {"w": jnp.ones([3, 2])}
>>> updates, state = tx.update(params, tx.init(params), params)
>>> optax.apply_updates(params, updates)["w"].shape
(3, 2)
"""

from importlib import metadata

from lopt import mup
from lopt.baselines import BASELINES, Baseline
from lopt.baselines.spaces import Range
from lopt.catalogue import load, read, released, verify
from lopt.rules import RULES, build
from lopt.stacking import unstacked
from lopt.types import LearnedOptimizer

try:
    __version__ = metadata.version("lopt")
except metadata.PackageNotFoundError:  # sources that nobody installed
    __version__ = "unknown"

__all__ = [
    "BASELINES",
    "RULES",
    "Baseline",
    "LearnedOptimizer",
    "Range",
    "build",
    "load",
    "mup",
    "read",
    "released",
    "unstacked",
    "verify",
]
