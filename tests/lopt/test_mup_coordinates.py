"""Coordinate checks: how much each layer's output moves must not depend on width.

In ten steps, from width 32 to 2,048, over five seeds (arXiv:2203.03466, appendix D.1).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lopt
from lopt import baselines, mup, rules
from tasks import base
from tasks.entries import TRANSFORMER
from tasks.families import language, mlp

pytestmark = pytest.mark.filterwarnings("ignore:mup is:UserWarning")

WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)
FEWER = (32, 512)  # half as far; of three the middle one would not count in a slope
STEPS = 10
SEEDS = 5
NETWORK = dict(
    dataset="digits",
    resolution=None,
    base_width=32,
    depth=2,
    activations=("relu",),
    zero_readout=True,
)
LAYERS = ["hidden0", "hidden1", "readout"]
RULE = dict(
    hidden=32,
    layers=2,
    head="exp",
    eps="relative",
    time=("relative",),
    signal=False,
    nominal=0.0,
    clip=8.0,
    step_mult=1e-2,
    exp_mult=1e-3,
)


def learned(info, key):
    """Returns a rule of random theta, which differs from seed to seed."""
    rule = rules.build("mlp", **RULE)
    tx = rule.bind(rule.init(key), num_steps=STEPS)
    return optax.chain(tx, mup.scale_updates(info)) if info else tx


def adam(info, key):
    build = baselines.BASELINES["muadam" if info else "adam"].build
    return build(num_steps=STEPS, info=info, learning_rate=1e-3)


def sgd(info, key):
    build = baselines.BASELINES["musgd" if info else "sgdm"].build
    return build(num_steps=STEPS, info=info, learning_rate=1e-2)


def released(name):
    """Returns how an artifact is built, as its users load it."""

    def build(info, key):
        return lopt.load(name, num_steps=200, mup=info)

    return build


OPTIMIZERS = {"rule": learned, "adam": adam, "sgd": sgd}
OPTIMIZERS |= {name: released(name) for name in lopt.released()}


@functools.cache
def movement(name, parametrization, width):
    """Returns the RMS change of every layer's output since the start, {layer: [5]}."""
    settings = NETWORK | dict(width=width, parametrization=parametrization)
    family = mlp.mlp(**settings, batch_size=64, vary={})
    info = mup.infer(family.shapes, family.base_shapes)
    info = info if parametrization == "mup" else None
    draw = family.sample(jax.random.key(0))

    @jax.jit
    def moved(keys, arrays):
        outputs = functools.partial(family.outputs, draw, batch=arrays["test"])

        def seed(key):
            key, theta_key = jax.random.split(key)
            tx = OPTIMIZERS[name](info, theta_key)
            first, last = train(family.task(draw), tx, arrays, key)
            pairs = outputs(params=first), outputs(params=last)
            return jax.tree.map(lambda a, b: jnp.sqrt(((a - b) ** 2).mean()), *pairs)

        return jax.lax.map(seed, keys)  # not vmap: at width 2,048, for memory

    return moved(jax.random.split(jax.random.key(1), SEEDS), family.data)


def train(task, tx, arrays, key):
    """Returns initial and final parameters."""
    init_key, batches_key = jax.random.split(key)
    first = task.init(init_key)

    def step(carry, batch_key):
        params, state = carry
        batch = task.batch(arrays, batch_key, "train")
        grads = jax.grad(lambda p: task.loss(p, None, batch)[0])(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    batch_keys = jax.random.split(batches_key, STEPS)
    (last, _), _ = jax.lax.scan(step, (first, tx.init(first)), batch_keys)
    return first, last


def slopes(name, parametrization, widths):
    """Returns the slope of log RMS change against log width, {layer: mean of seeds}."""
    changes = [movement(name, parametrization, width) for width in widths]
    assert all(list(change) == LAYERS for change in changes)
    return {
        layer: mup.slopes(widths, np.stack([c[layer] for c in changes])).mean()
        for layer in LAYERS
    }


def test_every_layer_with_weights_is_looked_at():
    family = mlp.mlp(
        **NETWORK,
        width=64,
        batch_size=1,
        vary={},
        parametrization="mup",
    )
    assert list(family.shapes) == LAYERS


def pairs(names, quick, fewer, every):
    """Returns (name, widths), of which quick names have fewer too, in less time."""
    slow = [pytest.param(name, every, marks=pytest.mark.slow) for name in names]
    return [*((name, fewer) for name in quick), *slow]


@pytest.mark.parametrize(
    ("name", "widths"),
    pairs(OPTIMIZERS, ["rule", "adam", "sgd", "mu_mlp"], FEWER, WIDTHS),
)
def test_under_mup_every_layer_moves_alike_at_every_width(name, widths):
    found = slopes(name, "mup", widths)
    assert all(abs(slope) < 0.1 for slope in found.values()), found


@pytest.mark.parametrize(
    ("name", "widths"), pairs(OPTIMIZERS, ["adam", "sgd"], FEWER, WIDTHS)
)
def test_without_mup_some_layer_moves_more_with_width(name, widths):
    found = slopes(name, "standard", widths)
    assert max(found.values()) > 0.15, found


def embedded(name, width):
    """Returns the RMS of the tokens' update at updates 2 to 4 of a transformer."""
    family = language.transformer(**TRANSFORMER | {"width": width})
    tx = OPTIMIZERS[name](
        mup.infer(family.shapes, family.base_shapes), jax.random.key(2)
    )
    task = family.task(family.sample(jax.random.key(0)))
    params = task.init(jax.random.key(1))

    @jax.jit
    def step(carry, key):
        params, state = carry
        batch = task.batch(family.data, key, "train")
        _, _, grads = base.gradient(task, params, key, batch, task.state)
        updates, state = tx.update(grads, state, params)
        moved = jnp.sqrt(jnp.mean(jnp.square(updates["embed"]["embedding"])))
        return (optax.apply_updates(params, updates), state), moved

    keys = jax.random.split(jax.random.key(3), 4)
    return jax.lax.scan(step, (params, tx.init(params)), keys)[1][1:]


# Past its 256 tokens, where factored axes by size would change the rule.
@pytest.mark.parametrize(
    ("name", "widths"),
    pairs(["adam", *lopt.released()], ["mu_mlp"], (16, 64), (16, 64, 256, 512)),
)
def test_under_mup_embeddings_move_alike_at_every_width(name, widths):
    found = mup.slopes(widths, np.stack([embedded(name, width) for width in widths]))
    assert (abs(found) < 0.1).all(), found
