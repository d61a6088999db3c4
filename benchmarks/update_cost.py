"""Measures what one update costs: `python -m benchmarks.update_cost [EXPONENT...]`.

Of a matrix of 10^EXPONENT parameters (4 to 8 by default), for every released rule,
beside Optax's AdamW and Muon in the same process: best time of several, times of
all taken in turns; temporaries as the compiler says. Gradients and state are donated,
as they are where a whole step is a program. On a CPU Muon is left out above 10^7, where
one update takes minutes. Results go into `docs/update_cost.json` and
`docs/update_cost.png`; the table is printed.

On a GPU, `python -m benchmarks.update_cost 6 7 8 9` gives each rule a second row, of
updates that `lopt.rules.kernels("off")` leaves to XLA, and results go into
`docs/update_cost_gpu.json` and `docs/update_cost_gpu.png`.
"""

import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from matplotlib.axes import Axes

import lopt
from common import canvas, machine
from common.canvas import LIGHT
from lopt.rules import kernels

DOCS = pathlib.Path(__file__).parent.parent / "docs"
EXPONENTS, SECONDS = (4, 5, 6, 7, 8), 6.0  # seconds that one optimizer may take
REFERENCE = "adamw"
MUON = 7  # greatest exponent for it on a CPU
PLAIN = " without kernels"


def optimizers() -> dict[str, optax.GradientTransformation]:
    """Returns what is measured, the reference first."""
    rules = {name: lopt.load(name, num_steps=200) for name in lopt.released()}
    return {REFERENCE: optax.adamw(1e-3), "muon": optax.contrib.muon(1e-3)} | rules


def compiled(tx: optax.GradientTransformation, params: Any) -> tuple[Any, Any]:
    """Returns an update's program and a call of it that keeps what it returns."""
    extra = optax.with_extra_args_support(tx)

    def update(grads: Any, state: Any, params: Any) -> Any:
        return extra.update(grads, state, params, value=jnp.float32(1.0))

    state = jax.jit(tx.init)(params)
    grads = 0.1 * params
    jitted = jax.jit(update, donate_argnums=(0, 1))
    program = jitted.lower(grads, state, params).compile()
    kept = [(grads, state)]

    def call() -> None:
        # Updates lie where gradients did, and are the next ones.
        kept[0] = jax.block_until_ready(program(*kept[0], params))

    return program, call


def timed(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Returns the least seconds of each call, taken in turns."""
    best = dict.fromkeys(calls, float("inf"))
    spent = dict.fromkeys(calls, 0.0)
    for turn in range(10):
        for name, call in calls.items():
            if turn > 2 and spent[name] > SECONDS:
                continue
            began = time.perf_counter()
            call()
            seconds = time.perf_counter() - began
            spent[name] += seconds
            if turn:  # the first warms up
                best[name] = min(best[name], seconds)
    return best


def measured(exponent: int) -> list[dict[str, Any]]:
    """Returns a row for each optimizer, and on a GPU for each rule without kernels."""
    some, backend = optimizers(), jax.default_backend()
    if exponent > MUON and backend == "cpu":
        del some["muon"]
    table = rows(exponent, some)
    if backend == "gpu":  # apart, for memory
        rules = {k: v for k, v in optimizers().items() if k != "muon"}
        with kernels("off"):
            _, *plain = rows(exponent, rules)
        table += [row | {"optimizer": row["optimizer"] + PLAIN} for row in plain]
    return table


def rows(
    exponent: int, some: dict[str, optax.GradientTransformation]
) -> list[dict[str, Any]]:
    """Returns a row for each of some optimizers, the reference among them."""
    height = 2 ** (exponent * 10 // 6)  # not square, nor of round sizes
    shape = height, round(10**exponent / height)
    params = 0.02 * jax.random.normal(jax.random.key(0), shape)
    found = {name: compiled(tx, params) for name, tx in some.items()}
    seconds = timed({name: call for name, (_, call) in found.items()})
    table = []
    for name, (program, _) in found.items():
        memory = program.memory_analysis()
        table.append(
            {
                "optimizer": name,
                "parameters": params.size,
                "seconds": seconds[name],
                "ratio": seconds[name] / seconds[REFERENCE],
                "temporaries": memory.temp_size_in_bytes,
                "state": memory.alias_size_in_bytes,
            }
        )
    return table


def plot(rows: list[dict[str, Any]]) -> bytes:
    """Returns times over AdamW's, and temporaries, by parameters, as a PNG."""

    def panel(key: str, title: str, scale: float) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            colours = (*LIGHT.baselines[:2], *LIGHT.candidates)
            for i, name in enumerate(dict.fromkeys(x["optimizer"] for x in rows)):
                look = {"color": colours[i % len(colours)], "ls": canvas.DASHES[i % 5]}
                some = [x for x in rows if x["optimizer"] == name]
                at = [x["parameters"] for x in some]
                values = [max(x[key] / scale, 1e-3) for x in some]
                axes.plot(at, values, label=name, marker="o", ms=3, **look)
            axes.set(title=title, xlabel="parameters", xscale="log", yscale="log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter("")

        return draw

    time = panel("ratio", "time of an update over AdamW's", 1)
    memory = panel("temporaries", "MiB of temporaries", 2**20)
    return canvas.png([[time, memory]])


def main() -> None:
    """Measures, keeps and prints."""
    exponents = [int(x) for x in sys.argv[1:]] or EXPONENTS
    print("| parameters | optimizer | seconds | over AdamW | MiB of temporaries |")
    print("|---|---|---|---|---|")
    table = []
    for exponent in exponents:
        for row in measured(exponent):
            table.append(row)
            mebibytes = row["temporaries"] / 2**20
            print(
                f"| {row['parameters']:,} | {row['optimizer']} | {row['seconds']:.2g} "
                f"| {row['ratio']:.1f} | {mebibytes:.1f} |",
                flush=True,
            )
        jax.clear_caches()
    record = {"machine": machine.machine(), "rows": table}
    backend = jax.default_backend()
    path = DOCS / f"update_cost{'' if backend == 'cpu' else '_' + backend}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".png").write_bytes(plot(table))


if __name__ == "__main__":
    main()
