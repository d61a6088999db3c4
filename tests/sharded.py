"""Prints, for each estimator, how the meta-gradient on 4 devices differs from 1.

Run with 4 forced CPU devices; the argument is float32 or float64.
"""

import json
import sys

import jax
import numpy as np
import optax
import tiny
import toys
from jax.sharding import AxisType

from lopt import rules
from meta_train import estimators, learner

ARGS = tiny.estimators()
RULE = rules.build(
    "mlp",
    hidden=4,
    layers=1,
    head="exp",
    eps="relative",
    time=("relative",),
    clip=8.0,
    step_mult=0.1,
    exp_mult=1e-3,
)


def mixture(name, inner):
    """Returns a mixture of three, a number that four devices cannot share."""
    one = estimators.build(name, inner=inner, num_workers=8, **ARGS[name])
    return estimators.mix(dict.fromkeys("abc", one), dict.fromkeys("abc", 1.0))


def meta_gradients(name, num_devices):
    """Returns the first two meta-gradients, flat, and the number of compilations."""
    family = toys.classifier()
    inner = toys.inner(RULE, family, window=2, horizon=3, stagger=True)
    mixed = name == "mixture"
    learn = learner.build(
        rule=RULE,
        estimator=mixture("pes", inner)
        if mixed
        else estimators.build(name, inner=inner, num_workers=8, **ARGS[name]),
        outer=optax.sgd(1.0),
        average=0.9,
        seed=0,
        mesh=jax.make_mesh(
            (num_devices,),
            ("worker",),
            axis_types=(AxisType.Auto,),
            devices=jax.devices()[:num_devices],
        ),
    )
    data = (family.data,) * 3 if mixed else family.data
    state = learn.init(data)
    used = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.estimator)}
    assert used == {num_devices}, used
    thetas = [flat(state.theta)]
    for _ in range(2):
        state, _ = learn.step(state, data)
        thetas.append(flat(state.theta))
    return -np.diff(thetas, axis=0).ravel(), learn.step._cache_size()


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def main(dtype):
    jax.config.update("jax_enable_x64", dtype == "float64")
    rows = {}
    for name in (*ARGS, "mixture"):
        (one, _), (four, compilations) = (meta_gradients(name, n) for n in (1, 4))
        difference = np.linalg.norm(four - one) / np.linalg.norm(one)
        rows[name] = dict(difference=float(difference), compilations=compilations)
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1])
