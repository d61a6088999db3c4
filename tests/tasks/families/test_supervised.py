"""Batches of supervised families."""

import jax
import numpy as np
from families import SMALL

from tasks import families
from tasks.base import SPLITS


def test_batches_of_a_split_come_from_that_split():
    family = families.build("mlp", **SMALL["mlp"] | {"batch_size": 2000})
    task = family.task(family.sample(jax.random.key(0)))
    for split in SPLITS:
        batch = task.batch(family.data, jax.random.key(1), split)
        assert batch["input"].shape == (2000, 8, 8, 1)
        stored = {bytes(image) for image in np.asarray(family.data[split]["input"])}
        drawn = {bytes(image) for image in np.asarray(batch["input"])}
        assert drawn <= stored
        # With replacement 2,000 draws of n leave n exp(-2000/n) unseen.
        unseen = len(stored) * np.exp(-2000 / len(stored))
        assert abs(len(stored) - len(drawn) - unseen) < 50
