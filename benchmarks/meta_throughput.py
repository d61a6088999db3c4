"""Measures inner steps a second: `python -m benchmarks.meta_throughput [HIDDEN...]`.

Meta-training of `configs/demo.py` on its task, the digits MLP, with 16 workers and
windows of 50, a process for each row of the table: PES at hidden sizes of the rule (8
and 32 by default), other estimators, a wider task, on one device and on two. Each row
is the best of several meta-steps, with the share of the arithmetic that this machine
does in products of the rule's shape (see `skinny`). Results go into
`docs/meta_throughput.json`; the table is printed.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from common import machine, settings
from configs import demo
from meta_train import build
from meta_train.sections import complete

ROOT = pathlib.Path(__file__).parent.parent
RECORD = ROOT / "docs" / "meta_throughput.json"
INPUTS, OUTPUTS, BATCH = 16, 2, 64  # of the network, by entry; of the task
ESTIMATORS = ("truncated", "full", "es")
META_STEPS = 12


def run(hidden: int, estimator: str, width: int) -> dict[str, Any]:
    """Returns what this process measures."""
    changes = {
        "rule.args.hidden": hidden,
        "family.args.width": width,
        "inner.window": 50,
        "estimator.num_workers": 16,
    }
    config = settings.changed(complete(demo.get_config(estimator)), changes)
    found = build.build(config)
    state = found.learner.init(found.data)
    seconds = []
    for _ in range(META_STEPS):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(found.learner.step(state, found.data))
        seconds.append(time.perf_counter() - began)
    steps = found.inner_steps / min(seconds[1:])
    return {
        "hidden": hidden,
        "estimator": estimator,
        "width": width,
        "devices": jax.device_count(),
        "steps_per_second": steps,
        "flops": flops(hidden, width),
        "first_seconds": seconds[0],
    }


def flops(hidden: int, width: int) -> float:
    """Returns the floating-point operations of one inner step's products.

    Those of the task's loss and gradient, and of the rule's network for every entry.
    """
    kernels = 64 * width + width * width + 10 * width
    network = INPUTS * hidden + hidden * hidden + OUTPUTS * hidden
    return 2.0 * (3 * BATCH * kernels + network * (kernels + 2 * width + 10))


def skinny(hidden: int) -> float:
    """Returns operations a second, of all cores, in products like the network's."""
    x = jnp.ones((2**17, INPUTS))
    w = jnp.ones((INPUTS, hidden))
    product = jax.jit(lambda x, w: x @ w)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        jax.block_until_ready(product(x, w))
        best = min(best, time.perf_counter() - began)
    return 2.0 * x.size * hidden / best


def grid(sizes: list[int]) -> list[tuple[int, str, int, int]]:
    """Returns hidden size, estimator, width and devices of each row."""
    rows = [(h, "pes", 32, n) for h in sizes for n in (1, 2)]
    rows += [(sizes[0], name, 32, 2) for name in ESTIMATORS]
    return [*rows, (sizes[0], "pes", 128, 2)]


def child(hidden: int, estimator: str, width: int, devices: int) -> dict[str, Any]:
    """Returns what a process of so many devices measures."""
    code = (
        "import json, jax\n"
        f"jax.config.update('jax_num_cpu_devices', {devices})\n"
        "from benchmarks import meta_throughput as m\n"
        f"print(json.dumps(m.run({hidden}, {estimator!r}, {width})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures, keeps and prints."""
    sizes = [int(x) for x in sys.argv[1:]] or [8, 32]
    limits = {hidden: skinny(hidden) for hidden in sizes}
    print("| hidden | estimator | width | devices | steps/s | of the limit | first s |")
    print("|---|---|---|---|---|---|---|")
    table = []
    for row in grid(sizes):
        found = child(*row)
        share = found["flops"] * found["steps_per_second"] / limits[found["hidden"]]
        table.append(found | {"share": share})
        print(
            f"| {found['hidden']} | {found['estimator']} | {found['width']} | "
            f"{found['devices']} | {found['steps_per_second']:,.0f} | {share:.2f} | "
            f"{found['first_seconds']:.0f} |",
            flush=True,
        )
    record = {"machine": machine.machine(), "limits": limits, "rows": table}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
