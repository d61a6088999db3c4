"""The bigram family: frequencies, successors, rows that a batch leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import entries, families

ARGS = entries.BIGRAM | dict(
    vocabulary=20, width=6, base_width=3, batch_size=4_000, zero_readout=False
)


def key(seed):
    return jax.random.key(seed)


def build(**changed):
    return families.build("bigram", **ARGS | changed)


def drawn(family, split="train"):
    draw = jax.jit(family.sample)(key(0))
    return draw, jax.jit(family.task(draw).batch, static_argnums=2)(
        family.data, key(1), split
    )


def test_tokens_are_as_frequent_as_zipf_has_it():
    _, batch = drawn(build(exponent=0.7))
    shares = np.bincount(batch["input"], minlength=20) / 4_000
    expected = np.arange(1, 21) ** -0.7
    # The error of a share is at most (1/4 / 4,000)^1/2 = .008.
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_successors_follow_but_for_the_share_of_noise(noise):
    draw, batch = drawn(build(noise=(noise, noise), exponent=0.0), "test")
    assert sorted(draw["successor"].tolist()) == list(range(20))
    follows = draw["successor"][batch["input"]] == batch["label"]
    assert abs(follows.mean() - (1 - noise + noise / 20)) < 0.04


def test_losses_are_those_of_the_network_by_hand():
    family = build(batch_size=7)
    draw, batch = drawn(family)
    task = family.task(draw)
    params = jax.tree.map(lambda p: p + 0.1, task.init(key(2)))
    table, readout = params["embed"]["embedding"], params["readout"]
    logits = np.asarray(table)[batch["input"]] @ readout["kernel"] * (3 / 6)
    logits = logits + readout["bias"][None]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    picked = shares[np.arange(7), np.asarray(batch["label"])]
    loss, aux = task.loss(params, None, batch)
    np.testing.assert_allclose(loss, -np.log(picked).mean(), rtol=1e-5)
    np.testing.assert_allclose(aux["logits"], logits, rtol=1e-4, atol=1e-5)


def test_rows_of_tokens_that_are_not_seen_have_no_gradient():
    family = build(batch_size=3)
    draw, batch = drawn(family)
    task = family.task(draw)
    grads = jax.grad(lambda p: task.loss(p, None, batch)[0])(task.init(key(2)))
    touched = jnp.abs(grads["embed"]["embedding"]).max(1) > 0
    assert set(np.flatnonzero(touched)) == set(batch["input"].tolist())


def test_splits_have_batches_of_their_own():
    batches = [drawn(build(), split)[1] for split in ("train", "test")]
    assert (batches[0]["input"] != batches[1]["input"]).mean() > 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(vocabulary=1), "vocabulary >= 2"),
        (dict(exponent=-1.0), "exponent >= 0"),
        (dict(noise=(0.5, 0.1)), "low <= high"),
        (dict(noise=(0.5, 1.1)), "high <= 1"),
        (dict(width=0), "width must be at least 1"),
    ],
)
def test_impossible_languages_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(**wrong)
