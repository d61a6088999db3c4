"""Prints suites and what their tasks cost: `python -m tasks [SUITE...]`.

Parameters, updates, floating-point operations of the loss and gradient of an update,
milliseconds of one and seconds of a run of them on this machine.
"""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tasks import suites
from tasks.costs import cost


def show(name: str, console: Console) -> None:
    """Prints a suite, a line a task."""
    table = Table(title=name, title_justify="left")
    for column in ("task", "parameters", "steps", "Mflop/step", "ms/step", "seconds"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, one in suites.SUITES[name].items():
        found = cost(suites.family(one))
        table.add_row(
            task,
            f"{found.params:,}",
            f"{one.num_steps:,}",
            f"{found.flops / 1e6:.3g}",
            f"{1e3 * found.seconds:.2f}",
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
