"""Standard parametrization: networks as Flax makes them, which no width scales."""

import jax
import numpy as np
import pytest
from families import ARGS, SMALL

from tasks import base, families

NETWORKS = [name for name, args in ARGS.items() if "base_width" in args]
STANDARD = {"parametrization": "standard", "zero_readout": False}
every_network = pytest.mark.parametrize("name", NETWORKS)


def build(name, **changed):
    return families.build(name, **SMALL[name] | STANDARD | changed)


def start(family, seed=0):
    """Returns initial parameters and the meta-loss of a batch."""

    @jax.jit
    def first(key, arrays):
        task = family.task(family.sample(key))
        params, batch = task.init(key), task.batch(arrays, key, "train")
        loss, _ = base.loss(task, params, key, batch, task.state)
        return params, task.normalise(loss)

    return first(jax.random.key(seed), family.data)


@every_network
def test_readouts_are_not_zero_and_losses_start_near_those_of_a_guess(name):
    params, loss = start(build(name))
    readout = params["readout"]["kernel"]
    np.testing.assert_allclose(readout.std(), len(readout) ** -0.5, rtol=0.4)
    assert 0.5 < loss < 2.5


@every_network
def test_no_ratio_of_widths_scales_updates(name):
    family = build(name)
    assert SMALL[name]["width"] != SMALL[name]["base_width"]
    assert str(family.base_shapes) == str(family.shapes)


@every_network
def test_only_known_parametrizations_and_no_zero_readout_are_taken(name):
    with pytest.raises(ValueError, match="Did you mean 'standard'"):
        build(name, parametrization="standart")
    if name != "mlp":  # which has coordinate checks of zero readouts
        with pytest.raises(ValueError, match="set zero_readout=False"):
            build(name, zero_readout=True)


def test_logits_of_attention_are_over_the_root_of_the_size_of_heads():
    family = build("vit")
    params, _ = start(family)
    batch = {"input": family.data["test"]["input"][:2]}
    found = family.outputs(family.sample(jax.random.key(0)), params, batch)
    query, key = (
        np.asarray(found[f"block0/attend/{x}"]).reshape(2, 4, 2, 4)
        for x in ("query", "key")
    )
    expected = np.einsum("nqhd,nkhd->nhqk", query, key) / 4**0.5
    actual = found["block0/attend/logits"]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
