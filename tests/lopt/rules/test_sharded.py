"""Each device updates its part of a tensor that a mesh splits."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, re
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from lopt import rules

mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
SPLIT = {
    "rows": ((256, 192), P("x")), "columns": ((192, 256), P(None, "y")),
    "both": ((256, 192), P("x", "y")), "whole": ((300, 300), P()),
    "vector": ((2**16,), P(("x", "y"))), "small": ((8, 4), P("x")),
    "smaller": ((4, 8), P("x")), "middle": ((128, 128), P(None, "y")),
    **{f"stacked{i}": ((64, 80), P("x")) for i in range(5)},
}
keys = jax.random.split(jax.random.key(0), len(SPLIT))
params = {
    name: jax.random.normal(key, shape)
    for key, (name, (shape, _)) in zip(keys, SPLIT.items())
}
grads = jax.tree.map(jnp.sin, params)
place = {name: NamedSharding(mesh, spec) for name, (_, spec) in SPLIT.items()}
for args in ({"signal": True, "nominal": 0.5}, {"head": "normalised", "bound": 2.0}):
    rule = rules.build("mlp", hidden=3, **args)
    tx = rule.bind(rule.init(jax.random.key(0)), num_steps=10)
    expected, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    split = jax.device_put((grads, params), (place, place))
    state = tx.init(split[1])
    update = jax.jit(tx.update).lower(split[0], state, split[1]).compile()
    found, after = update(split[0], state, split[1])
    sent = re.findall(r"= (.*) (?:all-|collective-)[\\w-]*\\(", update.as_text())
    sizes = [x for line in sent for x in re.findall(r"\\w\\[([\\d,]*)\\]", line)]
    count = [eval("*".join(x.split(",")) or "1") for x in sizes]
    rows = {}
    for name in SPLIT:
        a, b = found[name], jax.device_put(expected[name], place[name])
        momentum = after.history.momentum.long[name]
        rows[name] = {
            "difference": float(jnp.abs(a - b).max() / jnp.abs(b).max()),
            "alike": all(
                x.sharding.is_equivalent_to(place[name], x.ndim) for x in (a, momentum)
            ),
        }
    print(json.dumps({"sent": max(count), "rows": rows}))
"""


@pytest.fixture(scope="module")
def found():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ,
        capture_output=True,
        encoding="utf-8",
    )
    assert not run.returncode, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_updates_are_those_of_one_device_and_placed_as_parameters_are(found):
    assert len(found) == 2
    for kind in found:
        for name, row in kind["rows"].items():
            assert row["difference"] < 1e-5, name
            assert row["alike"], name


def test_no_device_sends_more_than_small_tensors_rows_and_columns(found):
    assert all(0 < kind["sent"] <= 1024 for kind in found)
