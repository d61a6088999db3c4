"""The family of bags of tokens: frequencies, orders, networks, rows left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import entries, families

ARGS = entries.BAG | dict(
    vocabulary=20, length=4, classes=3, width=6, base_width=3, zero_readout=False
)


def key(seed):
    return jax.random.key(seed)


def build(**changed):
    return families.build("bag_of_tokens", **ARGS | changed)


def drawn(family, split="train"):
    draw = jax.jit(family.sample)(key(0))
    return draw, jax.jit(family.task(draw).batch, static_argnums=2)(
        family.data, key(1), split
    )


@pytest.mark.parametrize("topical", [0.0, 0.25, 1.0])
def test_tokens_are_as_frequent_as_both_orders_have_it(topical):
    sizes = dict(batch_size=6_000, exponent=0.7, topical=(topical, topical))
    draw, batch = drawn(build(**sizes), "test")
    zipf = np.arange(1, 21) ** -0.7
    zipf /= zipf.sum()
    for label, order in enumerate(np.asarray(draw["orders"])):
        assert sorted(order) == list(range(20))
        own = np.empty(20)
        own[order] = zipf
        bags = np.asarray(batch["input"])[batch["label"] == label]
        assert abs(len(bags) / 6_000 - 1 / 3) < 0.03
        shares = np.bincount(bags.ravel(), minlength=20) / bags.size
        # The error of a share is at most (1/4 / 8,000)^1/2 = .006.
        expected = topical * own + (1 - topical) * zipf
        np.testing.assert_allclose(shares, expected, atol=0.03)


def test_losses_are_those_of_the_network_by_hand():
    family = build(batch_size=7)
    draw, batch = drawn(family)
    task = family.task(draw)
    params = jax.tree.map(lambda p: p + 0.1, task.init(key(2)))
    hidden, readout = params["hidden0"], params["readout"]
    x = np.asarray(params["embed"]["embedding"])[batch["input"]].sum(1) / 4**0.5
    x = np.maximum(x @ hidden["kernel"] + hidden["bias"][None], 0)
    logits = x @ readout["kernel"] * (3 / 6) + readout["bias"][None]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    picked = shares[np.arange(7), np.asarray(batch["label"])]
    loss, aux = task.loss(params, None, batch)
    np.testing.assert_allclose(loss, -np.log(picked).mean(), rtol=1e-5)
    np.testing.assert_allclose(aux["logits"], logits, rtol=1e-4, atol=1e-5)


def test_rows_of_tokens_that_are_not_seen_have_no_gradient():
    family = build(batch_size=2)
    draw, batch = drawn(family)
    task = family.task(draw)
    grads = jax.grad(lambda p: task.loss(p, None, batch)[0])(task.init(key(2)))
    touched = jnp.abs(grads["embed"]["embedding"]).max(1) > 0
    seen = set(batch["input"].ravel().tolist())
    assert set(np.flatnonzero(touched)) == seen and len(seen) < 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(vocabulary=1), "vocabulary >= 2"),
        (dict(classes=1), "classes >= 2"),
        (dict(topical=(0.5, 0.1)), "low <= high <= 1 of topical"),
        (dict(length=0), "length must be at least 1"),
        (dict(depth=0), "depth must be at least 1"),
        (dict(activations=("sine",)), "sine"),
    ],
)
def test_impossible_bags_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(**wrong)
