"""The validation loss: of a whole split, whatever the chunks it is taken in."""

import jax
import numpy as np
import pytest
from families import SMALL, build

from evaluation.runs import held_out
from tasks import families

SPLIT = "inner_valid"


@pytest.mark.parametrize("chunk", [3, 7, 64])
def test_chunks_count_by_the_examples_of_the_draws_classes(chunk, monkeypatch):
    args = SMALL["softmax_regression"] | {"dataset": "digits"}
    family = families.build(
        "softmax_regression", **args | {"vary": {"classes": (2, 2)}}
    )
    task = family.task(family.sample(jax.random.key(0)))
    params = jax.tree.map(
        lambda x: jax.random.normal(jax.random.key(2), x.shape), family.shapes
    )
    found = []
    for size in (1_000, chunk):
        monkeypatch.setattr(held_out, "CHUNK", size)
        key, data = jax.random.key(3), family.data
        found.append(held_out.validate(task, params, key, data, (), split=SPLIT))
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("chunk", [50, 64, 199, 200, 201])
def test_chunks_of_any_size_give_the_mean_over_the_split(chunk, monkeypatch):
    family = build("mlp")
    task = family.task(family.sample(jax.random.key(0)))
    params = task.init(jax.random.key(1))
    split = family.data["inner_valid"]
    assert len(split["label"]) == 200
    params = jax.tree.map(lambda x: x + 0.1, params)
    loss, aux = task.loss(params, jax.random.key(2), split)
    monkeypatch.setattr(held_out, "CHUNK", chunk)
    sizes = []

    def watched(params, key, batch):
        sizes.append(len(batch["label"]))
        return task.loss(params, key, batch)

    watched = task._replace(loss=watched, evaluate=None)
    found = held_out.validate(
        watched, params, jax.random.key(2), family.data, (), split=SPLIT
    )
    np.testing.assert_allclose(found, (loss, aux["correct"]), rtol=1e-5)
    assert max(sizes) <= chunk and sum(set(sizes)) <= 200
