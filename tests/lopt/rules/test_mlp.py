"""The rule against numbers of the original implementation (tests/data)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from places import DATA

from lopt import rules
from lopt.rules import features

ORIGINAL = dict(
    hidden=32,
    layers=2,
    head="exp",
    eps="absolute",
    time=("absolute",),
    signal=False,
    nominal=0.0,
    clip=None,
    step_mult=1e-3,
    exp_mult=1e-3,
)


def original_theta():
    z = np.load(DATA / "small_fc.npz")
    net = {
        f"{k}{i}": jnp.array(z[f"theta/nn/~/{k}{i}"]) for k in "wb" for i in range(3)
    }
    w0 = net["w0"]
    net["w0"] = {
        kind: w0[jnp.array(index)]
        for kind, index in features.PAPER_ORDER._asdict().items()
    }
    names = dict(momentum="momentum", rms="rms", factored="adafactor")
    decays = {k: jnp.array(z[f"theta/{v}_decays"]) for k, v in names.items()}
    return {"network": net, "decays": decays}


def trees(z, prefix):
    return {k.split("/")[1]: jnp.array(z[k]) for k in z if k.startswith(prefix + "/")}


@pytest.mark.parametrize("file", ["small_fc.npz", "small_fc_shapes.npz"])
def test_four_steps_equal_the_original(file):
    z = np.load(DATA / file)
    tx = rules.build("mlp", **ORIGINAL).bind(original_theta())
    state = tx.init(trees(z, "param0"))
    for step in range(4):
        params = trees(z, f"param{step}")
        updates, state = jax.jit(tx.update)(trees(z, f"grad{step}"), state, params)
        params = optax.apply_updates(params, updates)
        for name, expected in trees(z, f"param{step + 1}").items():
            # Two units in the last place of a parameter, which may exceed 1: four
            # times what processors of any instruction set show.
            np.testing.assert_allclose(params[name], expected, atol=2e-7, rtol=2.4e-7)


def test_paper_order_is_a_permutation_of_the_39_inputs():
    assert sorted(sum(features.PAPER_ORDER, ())) == list(range(39))
