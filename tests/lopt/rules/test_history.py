"""Averages of gradients: against a loop, along which axes, leaf by leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rule import ARGS

from lopt import rules
from lopt.rules import history


def second_moments(shape, axes):
    """Returns the shapes of `row` and `col`, after one gradient."""
    grad = jax.random.normal(jax.random.key(0), shape)
    past = history.init(grad, axes)
    past = history.update(history.init_decays(), grad, past, axes, grad.ndim)
    return past.row.short.shape, past.col.short.shape


@pytest.mark.parametrize("width", [255, 256, 257])
def test_by_fans_axes_do_not_change_as_one_outgrows_the_other(width):
    assert second_moments((256, width), "fans") == ((256, 1), (1, width))
    assert second_moments((3, 256, width), "fans") == ((3, 256, 1), (3, 1, width))


@pytest.mark.parametrize(
    ("shape", "same"),
    [((6, 6), True), ((5, 7), True), ((3, 4, 8), True), ((7, 5), False)],
)
def test_by_fans_a_rule_is_that_by_size_where_fan_out_is_larger(shape, same):
    grads = jax.random.normal(jax.random.key(0), shape)
    theta = rules.build("mlp", **ARGS).init(jax.random.key(1))

    def update(axes):
        tx = rules.build("mlp", **ARGS, axes=axes).bind(theta, num_steps=10)
        return tx.update(grads, tx.init(grads), grads)[0]

    assert jnp.array_equal(update("fans"), update("size")) == same


def test_averages_are_those_of_a_python_loop():
    grads = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    past = history.init(jnp.asarray(grads[0]))
    momentum, second, row, col = 0, 0, 0, 0
    decays = np.array([0.9, 0.99, 0.999])[:, None, None]
    for grad in grads:
        past = history.update(history.init_decays(), jnp.asarray(grad), past, "size", 2)
        squares = [grad**2, *((grad**2).mean(axis, keepdims=True) for axis in (1, 0))]
        momentum = decays * momentum + (1 - decays) * grad[None]
        second = 0.999 * second + 0.001 * squares[0]
        row = decays * row + (1 - decays) * squares[1][None]
        col = decays * col + (1 - decays) * squares[2][None]
    for found, expected in zip(past, (momentum, second, row, col), strict=True):
        found = np.stack(found) if isinstance(found, history.Paces) else found
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_leaves_of_a_history_of_trees_are_those_it_was_made_of():
    params = {"b": jnp.ones(3), "w": jnp.ones((2, 4))}
    leaves = [history.init(x) for x in (params["b"], params["w"])]
    trees = history.of_trees(leaves, params)
    assert jax.tree.structure(trees.second) == jax.tree.structure(params)
    assert trees.row.long["w"].shape == (2, 1)
    back = history.of_leaves(trees, params)
    assert jax.tree.structure(back) == jax.tree.structure(leaves)
    jax.tree.map(np.testing.assert_array_equal, back, leaves)
