"""Prints suites and what their tasks cost: `python -m tasks [SUITE...]`.

Parameters, updates, floating-point operations of the loss and gradient of an update,
milliseconds of one and seconds of a run of them: as recorded on two CPU cores, or, with
`--measure`, as measured on this machine. `--record` measures, and records.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from common import command_line
from common.names import near

RECORD = Path(__file__).with_name("costs.json")
COLUMNS = ("task", "parameters", "steps", "Mflop/step", "ms/step", "seconds")
WIDE = 200  # so that no name is cut; tables take the width that they need


def recorded() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns {suite: {task: steps and `costs.Cost`}}, as recorded."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def measured(name: str) -> dict[str, dict[str, Any]]:
    """Returns the costs of a suite's tasks on this machine."""
    from tasks import suites
    from tasks.costs import cost

    with command_line.Pulse() as pulse:
        found = {}
        for task, entry in suites.SUITES[name].items():
            pulse.begin(f"measuring {name}, {task}", aloud=False)
            costs = cost(suites.family(entry))._asdict()
            found[task] = {"steps": entry.num_steps} | costs
    return found


def _suites() -> Mapping[str, Mapping[str, Any]]:
    """Returns all suites; seconds of imports, which recorded costs do without."""
    from tasks.suites import SUITES

    return SUITES


def show(name: str, tasks: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Prints a suite, a line a task."""
    table = Table(title=name, title_justify="left", box=SIMPLE, pad_edge=False)
    for column in COLUMNS:
        justify = "left" if column == COLUMNS[0] else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for task, found in tasks.items():
        table.add_row(
            task,
            f"{found['params']:,}",
            f"{found['steps']:,}",
            f"{found['flops'] / 1e6:.3g}",
            f"{1e3 * found['seconds']:.2f}",
            _short(found["seconds"] * found["steps"]),
        )
    console.print(table)


def _short(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the suites named on the command line, or all."""
    record = recorded()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(record))
    for name, what in (("measure", "here"), ("record", "and record")):
        text = f"measure {what}, which takes a minute a suite"
        parser.add_argument(f"--{name}", action="store_true", help=text)
    given = parser.parse_args(arguments)
    measuring = given.measure or given.record
    names = [*_suites()] if measuring else [*record]
    for name in given.suites:
        if name not in names:
            known = f"unknown suite {name!r}; known: {', '.join(names)}."
            parser.error(f"{known}{near(name, names)}")
    for name in given.suites or names:
        if measuring:
            record[name] = measured(name)
        show(name, record[name], Console(highlight=False, width=WIDE))
    if given.record:
        text = json.dumps(record, indent=1) + "\n"
        RECORD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
