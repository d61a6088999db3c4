"""What a meta-step sends between devices, and what the page on scaling says of it."""

import os
import re
import subprocess
import sys

import pytest
from places import PYTHONPATH, ROOT

from benchmarks import scaling

SIZES = [124, 3_692, 2, 3_684]  # bytes, of configs/demo.py


def test_a_meta_step_sends_the_meta_gradient_and_its_variance_once():
    script = [sys.executable, "-m", "benchmarks.scaling", "tests/helpers/tiny.py", "4"]
    env = os.environ | {"PYTHONPATH": PYTHONPATH}
    said = subprocess.run(
        script, cwd=ROOT, env=env, check=True, capture_output=True, text=True
    ).stdout
    theta = int(re.search(r"theta of (\d+) floats", said)[1])
    sizes = [int(x) for x in re.findall(r"^all-reduce of (\d+) bytes$", said, re.M)]
    assert len(sizes) == said.count(" bytes") == 4, "another kind, or in a loop"
    assert sorted(sizes)[2:] == [4 * theta, 4 * theta + 8]


def test_collectives_are_read_from_a_program():
    program = (
        "%body (x: f32[3]) -> f32[3] {\n  %a = (f32[2,3]{1,0}, pred[]) all-reduce(%x)\n"
        "}\n\nENTRY %main () -> f32[] {\n  %b = s32[] all-gather-start(%y)\n}\n"
    )
    found = [("all-reduce", 25, True), ("all-gather", 4, False)]
    assert scaling.collectives(program) == found


def test_efficiency_is_compute_over_compute_and_latency(monkeypatch):
    monkeypatch.setattr(scaling, "STOPPING", 0.0)
    monkeypatch.setattr(scaling, "LATENCY", 1.0)
    assert scaling.efficiency(1, 6.0, [0]) == 1.0
    assert scaling.efficiency(8, 6.0, [0]) == pytest.approx(6 / 12)
    assert scaling.efficiency(8, 6.0, [0], ring=True) == pytest.approx(6 / 20)
    sent = 2 * 3 / 4 * 8 * scaling.BANDWIDTH
    time = 6 + 2 * 2 + sent / scaling.BANDWIDTH
    assert scaling.efficiency(4, 6.0, [8 * scaling.BANDWIDTH]) == pytest.approx(
        6 / time
    )


def test_the_page_shows_the_table():
    page = (ROOT / "docs" / "howto" / "scale.md").read_text()
    assert all(f"\n{line}\n" in page for line in scaling.table(SIZES))
