"""Results do not depend on how many devices carried them."""

import json
import os
import subprocess
import sys

import pytest
from places import PYTHONPATH, TESTS

from meta_train.estimators import ESTIMATORS

NAMES = (*ESTIMATORS, "mixture")
FEW = ("truncated", "pes", "bootstrapped", "combined", "implicit", "mixture")
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


@pytest.mark.parametrize("names", [FEW, pytest.param(NAMES, marks=pytest.mark.slow)])
def test_four_devices_give_the_meta_gradient_of_one_and_compile_once(names):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    out = subprocess.run(
        [sys.executable, str(TESTS / "helpers" / "sharded.py"), *names],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": PYTHONPATH},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = json.loads(out.splitlines()[-1])
    assert {row["name"] for row in rows} == {*names}
    for row in rows:
        assert row["difference"] < TOLERANCE[row["dtype"]], row
        assert row["compilations"] == 1, row
