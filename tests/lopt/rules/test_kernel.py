"""Kernels, interpreted by Pallas, give what XLA gives without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lopt import rules
from lopt.rules import groups, kernel, tiles

SHAPES = [(), (97,), (13, 7), (3, 45), (2, 1, 31), (5, 2, 3, 4)]
LEAVES = {"scalar": (), "vector": (37,), "matrix": (7, 13), "cube": (3, 5, 7)}
LEAVES["filter"] = (2, 1, 3, 19)
KINDS = {
    "exp": {"signal": True, "nominal": 0.5, "clip": 4.0, "bound": 2.0, "hidden": 2},
    "normalised": {"head": "normalised", "bound": 2.0, "axes": "fans"},
    "absolute": {"eps": "absolute", "layers": 2},
}
# Sums are of other order, and weights of rows are added up first.
NEAR = {"float32": 1e-5, "bfloat16": 2**-7}


@pytest.fixture(autouse=True)
def several_programs(monkeypatch):
    """Makes blocks so small that tensors have several, and programs several blocks."""
    monkeypatch.setattr(kernel, "MAPPED", 16)
    monkeypatch.setattr(kernel, "SUMMED", 16)
    monkeypatch.setattr(kernel, "PROGRAMS", 2)


def traced(function, *args, mode="interpret"):
    """Returns a program that was traced anew."""
    with kernel.kernels(mode):
        return jax.jit(lambda *args: function(*args)).trace(*args)


def kernels_in(program):
    return str(program.jaxpr).count("= pallas_call")


def operands(shape, dtype):
    """Returns weights, three arrays of alternate axes, and an array of a shape."""
    other = (3, *(n if i % 2 else 1 for i, n in enumerate(shape)))
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (3, 2), other, shape
    dtypes = "float32", "float32", dtype
    triples = zip(keys, shapes, dtypes, strict=True)
    return [jax.random.normal(*x) for x in triples]


def network(weights, tiled, over):
    """Returns what needs products, three numbers of an entry, and a constant."""
    first, second = jnp.einsum("f...,fh->h...", tiled, weights)
    there = jnp.concatenate([jnp.stack([second * over]), over[None]])
    return jnp.where(over > 0, jnp.exp(-jax.nn.relu(there[0])), first + there[1] / 2)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_entry_is_what_it_would_be_at_once(shape, dtype):
    args = operands(shape, dtype)
    program = traced(lambda *x: tiles.mapped(network, *x), *args)
    assert kernels_in(program) == 1
    found, expected = program.lower().compile()(*args), network(*args)
    assert found.dtype == dtype and found.shape == shape
    found, expected = (np.asarray(x, np.float32) for x in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=NEAR[dtype], atol=1e-6)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("shape", SHAPES)
def test_means_count_each_entry_once(shape, dtype):
    _, tiled, over = operands(shape, dtype)

    def function(over, tiled):
        return [jnp.square(over), tiled[1] + tiled[2] + over]

    def means(*args):
        return tiles.means(function, args, len(shape))

    program = traced(means, over, tiled)
    assert kernels_in(program) == 1
    found = program.lower().compile()(over, tiled)
    each = function(over, tiled)
    expected = [np.asarray(x, np.float64).mean() for x in each]
    assert found.shape == (2, *[1] * len(shape))
    assert found.dtype == jnp.result_type(*each)
    found = np.asarray(found.ravel(), np.float64)
    np.testing.assert_allclose(found, expected, rtol=NEAR[dtype], atol=1e-6)


def updates(kind, dtype, leaves):
    """Returns a rule's update, and arguments for it after a first one."""
    rule = rules.build("mlp", **dict(hidden=4, layers=1) | KINDS[kind])
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = {
        name: jax.random.normal(key, LEAVES[name], dtype)
        for key, name in zip(keys, leaves, strict=True)
    }
    grads = jax.tree.map(jnp.sin, params)
    state = jax.jit(lambda *x: tx.update(*x)[1])(grads, tx.init(params), params)
    return tx.update, (jax.tree.map(jnp.cos, params), state, params)


@pytest.mark.parametrize(
    ("kind", "dtype", "leaves"),
    [
        ("exp", "float32", tuple(LEAVES)),
        ("normalised", "bfloat16", ("matrix", "vector")),
        ("absolute", "float32", ("matrix",)),
    ],
)
def test_updates_are_those_without_kernels(kind, dtype, leaves, monkeypatch):
    monkeypatch.setattr(groups, "JOINED", 0)  # each leaf alone
    update, args = updates(kind, dtype, leaves)
    program = traced(update, *args)
    assert kernels_in(program) >= 2 * len(leaves)
    plain = traced(update, *args, mode="off")
    assert not kernels_in(plain)
    found, expected = (x.lower().compile()(*args)[0] for x in (program, plain))
    for name in leaves:
        a, b = (np.asarray(x[name], np.float32) for x in (found, expected))
        assert found[name].dtype == dtype
        largest = np.abs(b).max()
        assert largest > 0
        np.testing.assert_allclose(a, b, rtol=NEAR[dtype], atol=1e-5 * largest)


def test_programs_for_gpus_have_kernels_and_others_have_none(monkeypatch):
    monkeypatch.setattr(kernel, "LEAST", 64)
    monkeypatch.setattr(kernel, "MAPPED", 512)
    monkeypatch.setattr(kernel, "SUMMED", 256)
    update, args = updates("normalised", "bfloat16", ("matrix",))
    kept = {}
    for mode in ("on", "auto", "off"):
        program = traced(update, *args, mode=mode)
        for platform in ("cuda", "cpu"):
            text = program.lower(lowering_platforms=(platform,)).as_text()
            kept[mode, platform] = text.count("triton")
    # Means, the network and the bound; "auto" finds no GPU here.
    assert kept.pop(("on", "cuda")) == 3
    assert not any(kept.values())


def test_derivatives_stacks_of_thetas_and_doubles_need_no_kernel():
    rule = rules.build("mlp", hidden=2)
    theta, param = rule.init(jax.random.key(0)), jnp.ones((3, 5))

    def total(theta, param):
        tx = rule.bind(theta, num_steps=10)
        return tx.update(param, tx.init(param), param)[0].sum()

    assert kernels_in(traced(total, theta, param))
    assert not kernels_in(traced(jax.grad(total), theta, param))
    stack = jax.tree.map(lambda x: jnp.stack([x, x]), theta)
    assert not kernels_in(traced(jax.vmap(total, (0, None)), stack, param))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(float), (theta, param))
        assert not kernels_in(traced(total, *wide))


def test_what_kernels_cannot_do_is_done_without():
    rule = rules.build("mlp", hidden=64)
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    param = jnp.ones((3, 5))
    program = traced(tx.update, param, tx.init(param), param)
    assert kernels_in(program) == 1  # means
    program = traced(
        lambda x: tiles.mapped(lambda w, t, x: jnp.sort(x), (), (), x), param
    )
    assert not kernels_in(program)


def test_inside_shard_map_there_are_none():
    rule = rules.build("mlp", hidden=2)
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec()
    update = jax.shard_map(
        lambda x: tx.update(x, tx.init(x), x)[0],
        mesh=mesh,
        in_specs=spec,
        out_specs=spec,
    )
    assert not kernels_in(traced(update, jnp.ones((3, 5))))


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="known: auto, on, off, interpret"):
        with kernel.kernels("gpu"):
            pass
