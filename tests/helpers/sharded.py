"""Prints how the meta-gradients of estimators on 4 devices differ from those on 1.

    python sharded.py NAME...

Run with 4 forced CPU devices; "mixture" is a name, too.
"""

import json
import sys

import jax
import numpy as np
import optax
import tiny
import toys
from jax.sharding import AxisType
from tiny_rule import ARGS as RULE_ARGS

from lopt import rules
from meta_train import estimators, learner

ARGS = tiny.estimators()


def estimator(name, inner):
    """Returns an estimator, or a mixture of three, which four devices cannot share."""
    if name == "mixture":
        one = estimator("truncated", inner)
        return estimators.mix(
            dict.fromkeys("abc", one), dict.fromkeys("abc", 1.0), balance=True
        )
    return estimators.build(name, inner=inner, num_workers=8, **ARGS[name])


def meta_gradients(name, num_devices, *, rule, family):
    """Returns the first two meta-gradients, flat, and compilations for each family."""
    inner = toys.inner(rule, family, window=2, horizon=3, stagger=True)
    learn = learner.build(
        rule=rule,
        estimator=estimator(name, inner),
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
    data = (family.data,) * 3 if name == "mixture" else family.data
    state = learn.init(data)
    used = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.estimator)}
    assert used == {num_devices}, used
    thetas, drawn = [flat(state.theta)], set()
    for _ in range(2):
        state, metrics = learn.step(state, data)
        thetas.append(flat(state.theta))
        drawn.add(int(metrics.get("family", 0)))
    sizes = [program._cache_size() for program in learn.programs]
    compilations = sum(sizes) / len(drawn)
    return -np.diff(thetas, axis=0).ravel(), compilations


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def rule_of(name):
    """Returns a rule that the estimator can learn, and that compiles fast."""
    if name != "implicit":
        return toys.heavy_ball()
    decay = dict(baseline="sgdm", learning_rate=0.1, initial=1e-2)
    return rules.build("weight_decay", **decay)


def row(name, dtype, *, mlp=False):
    """Returns what one device and four find, compared."""
    rule = rules.build("mlp", **RULE_ARGS) if mlp else rule_of(name)
    with jax.enable_x64(dtype == "float64"):
        family = toys.classifier() if mlp else toys.quadratic(noise=0.3)
        found = [meta_gradients(name, n, rule=rule, family=family) for n in (1, 4)]
    (one, _), (four, compilations) = found
    difference = np.linalg.norm(four - one) / np.linalg.norm(one)
    return {
        "name": name,
        "dtype": dtype,
        "difference": float(difference),
        "compilations": compilations,
    }


def main():
    rows = [row(name, "float64") for name in sys.argv[1:]]
    rows.append(row("pes", "float32", mlp=True))  # compiles five times as long
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
