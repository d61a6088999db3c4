"""muP multipliers row by row, inferred from shapes, and slopes of lines."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lopt import mup

R = 4  # width over base width
# row -> (shape at ratio r, declared multiplier or None, Adam-like, SGD-like), from
# arXiv:2203.03466, Table 8
TABLE = {
    "input": (lambda r: (5, 8 * r), None, 1, R),
    "embedding": (lambda r: (11, 8 * r), None, 1, R),
    "norm gain": (lambda r: (8 * r,), None, 1, R),
    "depthwise": (lambda r: (3, 3, 1, 8 * r), None, 1, R),
    "hidden": (lambda r: (8 * r, 8 * r), None, 1 / R, 1),
    "hidden to 4 widths": (lambda r: (8 * r, 32 * r), None, 1 / R, 1),
    "conv": (lambda r: (3, 3, 8 * r, 8 * r), None, 1 / R, 1),
    "attention in": (lambda r: (8 * r, 2 * r, 4), None, 1 / R, 1),
    "attention out": (lambda r: (2 * r, 4, 8 * r), None, 1 / R, 1),
    "scan-stacked": (lambda r: (6, 8 * r, 8 * r), None, 1 / R, 1),
    "output with 1/r": (lambda r: (8 * r, 10), None, 1, R),
    "output with 1/r declared": (lambda r: (8 * r, 10), 1 / R, 1, R),
    "output without": (lambda r: (8 * r, 10), 1.0, 1 / R, 1 / R),
    "output bias": (lambda r: (10,), None, 1, 1),
    "scalar": (lambda r: (), None, 1, 1),
    "tied embedding": (lambda r: (11, 8 * r), 1 / R, 1, R),
}


def shapes(ratio):
    return {k: jax.ShapeDtypeStruct(v[0](ratio), jnp.float32) for k, v in TABLE.items()}


def table_info(ratio=R):
    declared = {k: v[1] for k, v in TABLE.items() if v[1] is not None}
    return mup.infer(shapes(ratio), shapes(1), declared)


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("like", ["adam", "sgd"])
def test_each_row_of_the_table_is_multiplied_as_published(row, like):
    tx = mup.scale_updates(table_info(), like)
    updates, _ = tx.update({row: jnp.ones(2)}, tx.init(None))
    np.testing.assert_allclose(updates[row], TABLE[row][2 if like == "adam" else 3])


def test_different_fans_grow_by_their_own_ratios():
    info = mup.infer({"w": np.zeros((16, 12))}, {"w": np.zeros((8, 4))})
    assert (info.r_in["w"], info.r_out["w"]) == (2, 3)


def test_narrower_than_base_gives_larger_steps():
    info = mup.infer({"w": np.zeros((4, 4))}, {"w": np.zeros((8, 8))})
    updates, _ = mup.scale_updates(info).update({"w": jnp.ones(())}, ())
    assert updates["w"] == 2 and mup.width_ratios(info) == (0.5, 0.5)


def test_base_width_changes_nothing():
    info = mup.infer(shapes(1), shapes(1))
    assert set(jax.tree.leaves(info[:3])) == {1.0} and mup.width_ratios(info) == (1, 1)


HIDDEN = {"hidden", "hidden to 4 widths", "conv", "scan-stacked"}
HIDDEN |= {"attention in", "attention out"}


@pytest.mark.parametrize(
    ("now", "base", "wider", "expected"),
    [
        (R, 1, None, HIDDEN),
        (1, R, None, HIDDEN),  # narrower than the base
        (R, 1, 2 * R, HIDDEN),
        (1, 1, 2, HIDDEN),
        (1, 1, None, set()),  # nothing shows what grows
    ],
)
def test_leaves_of_which_two_axes_grow_are_hidden(now, base, wider, expected):
    info = mup.infer(shapes(now), shapes(base), wider=wider and shapes(wider))
    assert {name for name, is_hidden in info.hidden.items() if is_hidden} == expected


def test_wider_shapes_change_no_ratio():
    assert (
        mup.infer(shapes(R), shapes(1), wider=shapes(8))[:3]
        == (mup.infer(shapes(R), shapes(1))[:3])
    )


def test_hidden_leaves_are_found_by_path_past_masked_ones():
    info = mup.infer(shapes(R), shapes(1))
    tree = {"conv": jnp.zeros(2), "input": optax.MaskedNode()}
    assert mup.are_hidden(info, tree) == tree | {"conv": True}
    with pytest.raises(ValueError, match="'y' is not among"):
        mup.are_hidden(info, {"y": jnp.zeros(2)})


def test_multipliers_may_be_a_partial_tree_or_paths():
    tree = {"in": {"w": np.zeros((3, 8))}, "out": {"w": np.zeros((8, 3))}}
    base = {"in": {"w": np.zeros((3, 4))}, "out": {"w": np.zeros((4, 3))}}
    by_path = mup.infer(tree, base, {"out/w": 1.0})
    assert by_path == mup.infer(tree, base, {"in": None, "out": {"w": 1.0}})
    assert by_path.r_in == {"in": {"w": 1}, "out": {"w": 2}}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept_even_with_traced_info(dtype):
    updates = {k: jnp.ones(v.shape, dtype) for k, v in shapes(1).items()}

    @jax.jit
    def scaled(info, updates):
        info = jax.tree.map(jnp.float32, info)
        return mup.scale_updates(info).update(updates, ())[0]

    assert all(x.dtype == dtype for x in scaled(table_info(), updates).values())


def test_masked_leaves_and_subtrees_pass():
    tree = {"x": {"w": jnp.ones((8, 8)), "b": jnp.ones(8)}, "y": jnp.ones((8, 8))}
    base = {"x": {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}, "y": jnp.ones((4, 4))}
    tx = mup.scale_updates(mup.infer(tree, base))
    for mask in ({"x": False, "y": True}, {"x": {"w": False, "b": True}, "y": True}):
        masked = optax.masked(tx, mask)
        updates, _ = masked.update(tree, masked.init(tree))
        assert updates["x"]["w"][0, 0] == 1 and updates["y"][0, 0] == 0.5


def test_updates_in_another_container_are_matched_by_path():
    frozen = pytest.importorskip("flax").core.freeze(shapes(R))
    tx = mup.scale_updates(mup.infer(frozen, shapes(1)))
    assert tx.update({"hidden": jnp.ones(())}, ())[0]["hidden"] == 1 / R


@pytest.mark.parametrize(
    ("now", "base", "multipliers", "message"),
    [
        ({"x": {"w": (8, 8, 8)}}, {"x": {"w": (4, 4, 4)}}, None, "'x/w' grows"),
        ({"x": {"w": (8, 8)}}, {"x": {"w": (4,)}}, None, r"'x/w' has shape \(8, 8\)"),
        ({"x": (8,), "y": (8,)}, {"x": (4,)}, None, "'y' exists only at this width"),
        ({"x": (8,)}, {"x": (4,), "y": (4,)}, None, "'y' exists only at the base"),
        ({"x": (8,)}, {"x": (0,)}, None, "'x' grows from"),
        ({"x": (8,)}, {"x": (4,)}, {"z": 1.0}, "'z', which is no leaf; leaves: x"),
        ({"x": (8,)}, {"x": (4,)}, {"x": 0.0}, "'x' must be positive"),
    ],
)
def test_mismatches_name_the_leaf(now, base, multipliers, message):
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    now, base = (jax.tree.map(np.zeros, tree, is_leaf=is_shape) for tree in (now, base))
    with pytest.raises(ValueError, match=message):
        mup.infer(now, base, multipliers)


@pytest.mark.parametrize(
    ("wider", "message"),
    [
        ({"x": (8, 8, 8)}, "'x' grows"),
        ({"x": (8,)}, r"'x' has shape \(8,\), at this width"),
        ({}, "'x' exists only at this width"),
        ({"x": (8, 8, 4), "y": (8,)}, "'y' exists only at the greater width"),
    ],
)
def test_wider_shapes_that_do_not_match_name_the_leaf(wider, message):
    now = {"x": np.zeros((4, 4, 4))}
    with pytest.raises(ValueError, match=message):
        mup.infer(now, now, wider={k: np.zeros(v) for k, v in wider.items()})


def test_unknown_leaf_and_unknown_like_are_errors():
    info = mup.infer({"x": np.zeros(8)}, {"x": np.zeros(4)})
    with pytest.raises(ValueError, match="'y' is not among .*: x"):
        mup.scale_updates(info).update({"y": jnp.ones(8)}, ())
    with pytest.raises(ValueError, match="known: adam, sgd"):
        mup.scale_updates(info, "lion")


def test_slopes_equal_numpy_polyfit():
    widths = np.array([32, 64, 128, 512])
    rms = np.random.default_rng(0).lognormal(size=(4, 2, 3))
    fits = np.polyfit(np.log(widths), np.log(rms.reshape(4, 6)), 1)[0]
    np.testing.assert_allclose(mup.slopes(widths, rms), fits.reshape(2, 3), rtol=1e-9)


def test_a_layer_that_stood_still_has_no_slope():
    with pytest.raises(ValueError, match="positive"):
        mup.slopes([1, 2], [[0.0], [1.0]])
