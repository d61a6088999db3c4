"""Prints suites and what their tasks cost: `python -m tasks [SUITE...]`.

Parameters, updates, floating-point operations of the loss and gradient of an update as
the compiler counts them, and seconds of a run's gradients on this machine.
"""

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from rich.console import Console
from rich.table import Table

from tasks import suites
from tasks.base import TaskFamily, gradient


class Cost(NamedTuple):
    """What a task costs: parameters, operations and median seconds of a step."""

    params: int
    flops: float
    seconds: float


def cost(family: TaskFamily, *, repeats: int = 10) -> Cost:
    """Returns what an update of a task costs, the optimizer's own work apart."""

    def step(params, state, key, data):
        task = family.task(family.sample(jax.random.key(0)))
        batch = task.batch(data, key, "train")
        return gradient(task, params, key, batch, state)

    task = family.task(family.sample(jax.random.key(0)))
    args = jax.jit(task.init)(jax.random.key(1)), task.state
    compiled = jax.jit(step).lower(*args, jax.random.key(2), family.data).compile()
    keys = jax.random.split(jax.random.key(3), repeats)
    times = []
    for key in keys:
        began = time.perf_counter()
        jax.block_until_ready(compiled(*args, key, family.data))
        times.append(time.perf_counter() - began)
    params = sum(math.prod(x.shape) for x in jax.tree.leaves(family.shapes))
    flops = (compiled.cost_analysis() or {}).get("flops", math.nan)
    return Cost(params, flops, statistics.median(times))


def show(name: str, console: Console) -> None:
    """Prints a suite, a line a task."""
    table = Table(title=name, title_justify="left")
    for column in ("task", "parameters", "steps", "Mflop a step", "seconds"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, one in suites.SUITES[name].items():
        found = cost(suites.family(one))
        table.add_row(
            task,
            f"{found.params:,}",
            f"{one.num_steps:,}",
            f"{found.flops / 1e6:.2f}",
            f"{found.seconds * one.num_steps:.1f}",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the suites named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=", ".join(suites.SUITES)
    )
    wanted = parser.parse_args(arguments).suites or list(suites.SUITES)
    for unknown in set(wanted) - set(suites.SUITES):
        parser.error(f"unknown suite {unknown!r}; known: {', '.join(suites.SUITES)}.")
    for name in wanted:
        show(name, Console(highlight=False))


if __name__ == "__main__":
    main()
