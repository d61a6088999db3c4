"""A rule of few weights, its variants, and an artifact of one that descends."""

import jax
import jax.numpy as jnp

from lopt import artifact, rules

ARGS = dict(
    hidden=4,
    layers=1,
    head="exp",
    eps="relative",
    time=("relative",),
    signal=False,
    nominal=0.0,
    clip=8.0,
    step_mult=1e-2,
    exp_mult=1e-3,
)


def descending(rule):
    """Returns theta of a rule that follows its momenta, near sign descent.

    Units 0 and 1 read normalised momenta with opposite signs and the readout
    subtracts them, so that relu(m) - relu(-m) = m is the direction.
    """
    theta = jax.tree.map(lambda x: 0.02 * x, rule.init(jax.random.key(0)))
    net = theta["network"]
    momenta = jnp.array([0.5, 0.3, 0.2])
    full = net["w0"]["full"]
    full = full.at[2:5, 0].add(momenta).at[2:5, 1].add(-momenta)
    last = max(name for name in net if name[0] == "w")
    net |= {"w0": net["w0"] | {"full": full}}
    net |= {last: net[last].at[0, 0].add(1.0).at[1, 0].add(-1.0)}
    return theta | {"network": net}


def save(directory, *, card=None, **changes):
    """Saves an artifact whose rule has `changes` from `ARGS`, and returns its path."""
    args = ARGS | changes
    theta = descending(rules.build("mlp", **args))
    artifact.save(directory, rule="mlp", rule_args=args, theta=theta, card=card or {})
    return directory


def decay_rule(**changes):
    """Returns a baseline with learned weight decay."""
    args = dict(baseline="sgdm", learning_rate=0.1, initial=0.3) | changes
    return rules.build("weight_decay", **args)
