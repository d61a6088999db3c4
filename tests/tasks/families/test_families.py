"""What every task family keeps to, by a table: family x property."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from families import ARGS, SMALL, build, varied

from evaluation.runs import curves
from lopt import mup
from lopt.baselines import BASELINES
from tasks import base, families
from tasks.networks import attention

every_family = pytest.mark.parametrize("name", ARGS)

# Families with width, and the base from which theirs grows 32 times. From narrower ones
# slopes pass .1, as widths are finite: the MLP's readout from 16 (-.10), that of
# autoencoders from 32 (-.15), the VAE's decoder from 32 (-.15), and the logits of the
# vision transformer's attention from 16 (-.17; from 32 -.09, from 64 -.11).
BASES = {name: 16 for name, args in ARGS.items() if "base_width" in args} | {
    "autoencoder": 128,
    "mlp": 32,
    "vae": 128,
    "vit": 32,
}
FACTORS = (1, 4, 16, 32)
SEEDS = 5
STEPS = 10


def key(seed):
    return jax.random.key(seed)


def start(family, seed):
    task = family.task(family.sample(key(seed)))
    return task, task.init(key(seed + 1))


def nudged(params, seed):
    """Returns parameters of which none is zero."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key(seed), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    noise = [0.1 * jax.random.normal(k, x.shape) for k, x in pairs]
    return tree.unflatten([x + n for x, n in zip(leaves, noise, strict=True)])


def test_every_family_is_in_the_table():
    assert ARGS.keys() == families.FAMILIES.keys(), (
        "add a row to tests/helpers/families.py"
    )


@every_family
def test_shapes_are_those_of_initial_parameters(name):
    family = build(name)
    params = jax.jit(lambda: start(family, 0)[1])()
    assert jax.tree.structure(params) == jax.tree.structure(family.shapes)
    for leaf, shape in zip(*map(jax.tree.leaves, (params, family.shapes)), strict=True):
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
        assert not leaf.weak_type
    jax.tree.map(
        np.testing.assert_array_equal, params, jax.jit(lambda: start(family, 0)[1])()
    )


@every_family
def test_twice_the_width_shows_what_grows(name):
    family = build(name)
    if "base_width" not in ARGS[name]:
        assert family.wider_shapes in (None, family.shapes)
        return
    wider = families.build(name, **SMALL[name] | {"width": 2 * SMALL[name]["width"]})
    assert str(family.wider_shapes) == str(wider.shapes)
    grown = mup.infer(family.shapes, family.base_shapes)
    at_base = mup.infer(family.shapes, family.shapes, wider=family.wider_shapes)
    assert at_base.hidden == grown.hidden


@every_family
def test_draws_share_a_program_and_start_near_meta_loss_one(name):
    family = varied(name)

    @jax.jit
    def run(data, draw, k):
        task = family.task(draw)
        params, batch = task.init(k), task.batch(data, k, "train")
        loss, _, grads = base.gradient(task, params, k, batch, task.state)
        finite = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
        size = optax.tree.norm(grads)
        return task.normalise(loss), jnp.stack(finite).all() & (size > 0)

    draws = [family.sample(key(seed)) for seed in range(50)]
    found = [run(family.data, draw, key(n)) for n, draw in enumerate(draws)]
    assert run._cache_size() == 1
    assert all(bool(fine) for _, fine in found)
    assert 0.85 < np.mean([float(value) for value, _ in found]) < 1.2


@every_family
def test_gradient_equals_finite_differences_in_float64(name):
    smooth = {"activations": ("tanh",)} if "activations" in SMALL[name] else {}
    with jax.enable_x64():
        family = families.build(name, **(SMALL[name] | smooth))
        task, params = start(family, 3)
        batch = task.batch(family.data, key(4), "train")
        flat, unravel = jax.flatten_util.ravel_pytree(nudged(params, 8))
        assert flat.dtype == jnp.float64
        value = jax.jit(
            lambda x: base.loss(task, unravel(x), key(5), batch, task.state)[0]
        )
        direction = jax.random.normal(key(6), flat.shape) / flat.size**0.5
        slope = jax.jit(jax.grad(value))(flat) @ direction
        ends = [value(flat + h * direction) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, slope, rtol=1e-6)


@every_family
def test_training_lowers_the_loss_and_validation_is_finite(name):
    family = build(name)
    found = curves.curves(
        family,
        lambda *, num_steps: BASELINES["adam"].build(
            num_steps=num_steps, learning_rate=1e-2
        ),
        num_steps=60,
        seeds=(0, 1),
        valid_every=30,
    )
    assert found.finite.all()
    assert (found.train[0, :, -10:].mean(-1) < found.train[0, :, :5].mean(-1)).all()


@pytest.mark.parametrize(
    "name",
    ["mlp", "surface"]
    + [pytest.param(x, marks=pytest.mark.slow) for x in ("resnet", "transformer")],
)
def test_the_meta_gradient_of_a_rate_at_zero_is_a_sum_of_products(name):
    family, keys = build(name), jax.random.split(key(0), 4)

    def gradient(params, state, k):
        batch = task.batch(family.data, k, "train")
        return base.gradient(task, params, keys[0], batch, state)

    def run(rate):
        def step(carry, k):
            params, state = carry
            _, state, grads = gradient(params, state, k)
            return (jax.tree.map(lambda p, g: p - rate * g, params, grads), state), ()

        (params, state), _ = jax.lax.scan(step, (first, task.state), keys[1:])
        return gradient(params, state, keys[0])[0]

    task, first = start(family, 0)
    grads = [jax.jit(gradient)(first, task.state, k)[2] for k in keys]
    products = [optax.tree.vdot(g, grads[0]) for g in grads[1:]]
    found, expected = jax.jit(jax.grad(run))(0.0), -sum(products)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(run))(1e-2))


def movement(name, width):
    """Returns the RMS change of each layer's output in a few steps, {layer: mean}."""
    args = ARGS[name] | dict(width=width, base_width=BASES[name], batch_size=32)
    family = families.build(name, **args)
    info = mup.infer(family.shapes, family.base_shapes)
    tx = BASELINES["muadam"].build(num_steps=STEPS, info=info, learning_rate=3e-3)

    def seed(k):
        draw = family.sample(k)
        task = family.task(draw)
        first = task.init(k)

        def step(carry, step_key):
            params, carried, state = carry
            batch = task.batch(family.data, step_key, "train")
            _, carried, grads = base.gradient(task, params, step_key, batch, carried)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), carried, state), None

        keys = jax.random.split(k, STEPS)
        (last, *_), _ = jax.lax.scan(step, (first, task.state, tx.init(first)), keys)
        batch = task.batch(family.data, key(9), "test")
        pair = (family.outputs(draw, params, batch) for params in (first, last))
        return jax.tree.map(lambda a, b: jnp.sqrt(((a - b) ** 2).mean()), *pair)

    found = jax.jit(lambda keys: jax.lax.map(seed, keys))(
        jax.random.split(key(1), SEEDS)
    )
    return {layer: np.exp(np.log(x).mean()) for layer, x in found.items()}


def slopes(widths, found):
    """Returns the slopes of the layers' movements at some widths, {layer: slope}."""
    return {
        layer: float(mup.slopes(widths, np.array([[x[layer]] for x in found]))[0])
        for layer in found[0]
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_every_layer_moves_alike_at_every_width(name):
    widths = [BASES[name] * factor for factor in FACTORS]
    found = slopes(widths, [movement(name, width) for width in widths])
    assert found and all(abs(slope) < 0.1 for slope in found.values()), found


@pytest.mark.slow
def test_attention_over_the_root_of_the_size_moves_more_at_greater_widths(monkeypatch):
    right, widths, found = attention.Attention, (32, 128, 512), []
    for width in widths:

        def wrong(heads, base_width, causal, *, name, width=width):
            return right(heads, width, causal, name=name)  # as if it were the base

        monkeypatch.setattr(attention, "Attention", wrong)
        found.append(movement("vit", width))
    assert slopes(widths, found)["block0/attend/logits"] > 0.2
