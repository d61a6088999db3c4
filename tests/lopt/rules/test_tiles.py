"""Work in tiles gives what it gives at once, whatever the shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lopt import rules
from lopt.rules import entries, groups, tiles

ENTRIES = 32  # of a tile here
SHAPES = [(97,), (1, 97), (97, 1), (13, 7), (2, 3, 50), (5, 2, 3, 4), (33, 33)]
KINDS = {
    "exp": {},
    "normalised": {"head": "normalised", "bound": 2.0},
    "signal": {"signal": True, "nominal": 0.5, "axes": "fans"},
    "wide": {"hidden": 24, "bound": 5.0},
}


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setitem(tiles.ENTRIES, "cpu", ENTRIES)


def operands(shape):
    """Returns an array of a shape, and one with each other axis of size 1."""
    other = tuple(n if i % 2 else 1 for i, n in enumerate(shape))
    keys = jax.random.split(jax.random.key(0))
    return [jax.random.normal(k, x) for k, x in zip(keys, (shape, other), strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("small_tiles")
def test_each_entry_changes_once_and_as_it_would_at_once(shape):
    x, y = operands(shape)

    def function(scale, y, x):
        return scale * y + x

    found = jax.jit(lambda x, y: tiles.mapped(function, jnp.float32(2), y, x))(x, y)
    np.testing.assert_allclose(found, 2 * y + x, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("small_tiles")
def test_means_count_each_entry_once(shape):
    x, y = operands(shape)
    ndim = len(shape)
    means = jax.jit(lambda x, y: tiles.means(lambda x, y: [x + y, x * y], (x, y), ndim))
    found = means(x, y)
    assert found.shape == (2, *[1] * ndim)
    expected = (x + y).mean(), (x * y).mean()
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 97, 3)])
@pytest.mark.parametrize("entries", [1, 32, 2**15])
def test_tiles_are_of_about_so_many_entries_and_contiguous(shape, entries):
    found = tiles.sizes(shape, entries)
    assert np.prod(found) <= max(entries, 1)
    cut = [i for i, (n, size) in enumerate(zip(shape, found, strict=True)) if size < n]
    if cut:  # whole axes after the last that is cut, single entries before it
        assert found[cut[-1] + 1 :] == shape[cut[-1] + 1 :]
        assert all(n == 1 for n in found[: cut[-1]])


def updates(kind, shape, monkeypatch, size, stack=1):
    """Returns two updates of a rule, and the derivative of their sum by theta."""
    monkeypatch.setitem(tiles.ENTRIES, "cpu", size)
    rule = rules.build("mlp", **dict(hidden=3, clip=4.0) | KINDS[kind])
    theta = rule.init(jax.random.key(0))
    theta = jax.tree.map(lambda x: x + 0.01, theta)
    keys = jax.random.split(jax.random.key(1), 3)
    params, *grads = (jax.random.normal(key, (stack, *shape)) for key in keys)

    def total(theta, params, grads):
        tx = rule.bind(theta, num_steps=10)
        params, *grads = (list(jnp.unstack(x)) for x in (params, *grads))
        state, found = tx.init(params), []
        for grad in grads:
            update, state = tx.update(grad, state, params)
            found.append(update)
        return sum(x.sum() for x in jax.tree.leaves(found)), (found, state)

    slope, found = jax.jit(jax.grad(total, has_aux=True))(theta, params, grads)
    return slope, found


def assert_same(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12),
        found,
        expected,
    )


@pytest.mark.parametrize(
    ("kind", "shape"),
    [*((kind, (9, 11)) for kind in KINDS), ("exp", (61,)), ("signal", (2, 3, 17))],
)
def test_a_rule_in_tiles_is_the_rule_at_once_and_so_are_meta_gradients(
    kind, shape, monkeypatch
):
    with jax.enable_x64(True):
        at_once = updates(kind, shape, monkeypatch, 2**15)
        assert_same(updates(kind, shape, monkeypatch, ENTRIES), at_once)


@pytest.mark.parametrize(
    ("kind", "least"), [("signal", 1), ("normalised", 1), ("exp", 9), ("normalised", 9)]
)
def test_tensors_of_one_shape_get_the_updates_they_get_alone(kind, least, monkeypatch):
    monkeypatch.setattr(groups, "STACKED", least)
    with jax.enable_x64(True):
        apart = updates(kind, (3, 4), monkeypatch, 12, stack=3)
        for size in (24, 36):  # two and one, or all together
            assert_same(updates(kind, (3, 4), monkeypatch, size, stack=3), apart)


@pytest.mark.parametrize("kind", KINDS)
def test_large_tensors_in_bfloat16_get_updates_that_are_rounded_twice(kind):
    rule = rules.build("mlp", **dict(hidden=3) | KINDS[kind])
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    keys = jax.random.split(jax.random.key(1))
    grad, param = (jax.random.normal(key, (200, 200), jnp.bfloat16) for key in keys)
    assert grad.size > tiles.limit()
    found, _ = jax.jit(tx.update)(grad, tx.init(param), param)
    wide = grad.astype(jnp.float32), param.astype(jnp.float32)
    expected, _ = jax.jit(tx.update)(wide[0], tx.init(wide[1]), wide[1])
    assert found.dtype == jnp.bfloat16
    found = found.astype(jnp.float32)
    np.testing.assert_allclose(found, expected, rtol=2**-7, atol=1e-8)


@pytest.mark.parametrize("shape", [(2**24,), (2**12, 2**12), (3, 3, 2**11, 2**10)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_temporaries_do_not_grow_with_a_leaf(dtype, shape):
    leaf = jax.ShapeDtypeStruct(shape, dtype)
    # XLA keeps what a loop on CPUs reads and writes of bfloat16 as float32.
    copies = 0 if dtype == "float32" else 8 * leaf.size
    for args in KINDS.values():
        rule = rules.build("mlp", **dict(hidden=3) | args)
        tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
        state = jax.eval_shape(tx.init, leaf)
        for donated in ((), (0, 1)):
            update = jax.jit(tx.update, donate_argnums=donated)
            memory = update.lower(leaf, state, leaf).compile().memory_analysis()
            assert memory.temp_size_in_bytes < copies + 2**24


@pytest.mark.parametrize("shape", [(5, 6), (200, 200)])
@pytest.mark.parametrize(("name", "value"), [("clip", 0.5), ("bound", 0.01)])
def test_settings_may_be_traced_and_differentiated_by(name, value, shape):
    param = jnp.linspace(0, 3, shape[0] * shape[1]).reshape(shape)

    def total(value):
        rule = rules.build("mlp", hidden=3, **{name: value})
        tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
        return jnp.square(tx.update(jnp.sin(param), tx.init(param), param)[0]).sum()

    with jax.enable_x64(True):
        param = param.astype(jnp.float64)
        found = jax.jit(jax.grad(total))(value)
        step = 1e-6 * value
        slope = (total(value + step) - total(value - step)) / (2 * step)
        np.testing.assert_allclose(found, slope, rtol=1e-4)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("kind", ["exp", "normalised"])
def test_large_tensors_are_updated_inside_shard_map(kind):
    rule = rules.build("mlp", **dict(hidden=3) | KINDS[kind])
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)

    def update(param):
        return tx.update(jnp.sin(param), tx.init(param), param)[0]

    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("x")
    mapped = jax.shard_map(update, mesh=mesh, in_specs=spec, out_specs=spec)
    param = jnp.linspace(0, 3, 99).reshape(9, 11)
    found, expected = jax.jit(mapped)(param), jax.jit(update)(param)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_updates_outside_of_jit_are_traced_once(monkeypatch):
    traced, updated = [], entries.updated
    monkeypatch.setattr(
        entries, "updated", lambda *args: traced.append(1) or updated(*args)
    )
    rule = rules.build("mlp", hidden=3)
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    param = jnp.ones((3, 4))
    state = tx.init(param)
    for _ in range(3):
        _, state = tx.update(param, state, param)
    assert len(traced) == 1


@pytest.mark.parametrize("kind", ["exp", "wide"])
def test_copies_share_the_cache_and_change_nothing(kind, monkeypatch):
    monkeypatch.setitem(tiles.UNITS, "cpu", 2**12)
    rule = rules.build("mlp", **dict(hidden=3) | KINDS[kind])
    theta = rule.init(jax.random.key(0))
    params, grads = jax.random.normal(jax.random.key(1), (2, 3, 13, 7))

    def found(copies):
        def update(param, grad):
            tx = rule.bind(theta, num_steps=10)
            return tx.update(grad, tx.init(param), param)[0]

        with rules.copies(copies), rules.copies(1):
            limits = tiles.limit(), tiles.limit(24)
            return limits, jax.jit(jax.vmap(update))(params, grads)

    (one, some, many) = (found(n) for n in (1, 3, 10**6))
    assert [x[0] for x in (one, some, many)] == [
        (2**12, 170),
        (2**12 // 3, 56),  # fewer than the 91 entries, where the layer is wide
        (tiles.LEAST, tiles.LEAST),
    ]
    for x in (some, many):
        np.testing.assert_allclose(x[1], one[1], rtol=2e-5, atol=1e-9)
