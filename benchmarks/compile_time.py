"""Measures how long compiling takes: `python -m benchmarks.compile_time [LEAVES...]`.

Of one update of a model of so many leaves (100 and 2,000 by default), all 8x8 or layers
of a transformer, for every released rule beside AdamW; and of the meta-steps of
`configs/demo.py` and `configs/mixture.py`, without a cache and with a warm one.
Results go into `docs/compile_time.json`; the table is printed.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

import lopt
from common import machine

ROOT = pathlib.Path(__file__).parent.parent
RECORD = ROOT / "docs" / "compile_time.json"
LEAVES = (100, 2_000)
# Shapes of the leaves of one layer of a transformer of width 256.
LAYER = ((256, 768), (256, 256), (256, 1024), (1024, 256), *[(256,)] * 4, (1024,))
CONFIGS = ("demo", "mixture")
# Builds a run, traces it, and prints the seconds that compiling all programs took.
META_STEP = """
import sys, time
from configs import {name}
from meta_train import build
run = build.build({name}.get_config())
began = time.perf_counter()
run.learner.compile(run.data)
print(time.perf_counter() - began)
"""


def models(leaves: int) -> dict[str, list[Any]]:
    """Returns lists of so many leaves, or a little more, by name."""
    layers = -(-leaves // len(LAYER))
    return {
        "8x8": [jax.ShapeDtypeStruct((8, 8), jnp.float32)] * leaves,
        "transformer": [
            jax.ShapeDtypeStruct(shape, jnp.float32) for shape in LAYER * layers
        ],
    }


def updates(leaves: int) -> Iterator[dict[str, Any]]:
    """Yields the seconds from tracing an update to its program."""
    rules = {name: lopt.load(name, num_steps=200) for name in lopt.released()}
    for model, params in models(leaves).items():
        for name, tx in ({"adamw": optax.adamw(1e-3)} | rules).items():
            state = jax.eval_shape(tx.init, params)
            began = time.perf_counter()
            jax.jit(tx.update).lower(params, state, params).compile()
            seconds = time.perf_counter() - began
            yield {"of": f"{leaves} leaves, {model}", "by": name, "seconds": seconds}


def meta_steps() -> Iterator[dict[str, Any]]:
    """Yields the seconds of processes that compile a config's meta-steps."""
    for name in CONFIGS:
        with tempfile.TemporaryDirectory() as cache:
            for what in ("cold", "warm"):
                done = subprocess.run(
                    [sys.executable, "-c", META_STEP.format(name=name)],
                    cwd=ROOT,
                    env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
                    check=True,
                    capture_output=True,
                    text=True,
                    encoding="utf-8",
                )
                seconds = float(done.stdout.split()[-1])
                yield {"of": f"meta-steps of {name}", "by": what, "seconds": seconds}


def main() -> None:
    """Measures, keeps and prints."""
    table = []
    print("| program | by | seconds |\n|---|---|---|")
    counts = [int(x) for x in sys.argv[1:]] or LEAVES
    rows = (row for count in counts for row in updates(count))
    for row in itertools.chain(rows, meta_steps()):
        table.append(row)
        print(f"| {row['of']} | {row['by']} | {row['seconds']:.1f} |", flush=True)
    record = {"machine": machine.machine(), "rows": table}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
