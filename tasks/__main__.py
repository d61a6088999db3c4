"""Prints suites and what their tasks cost: `python -m tasks [SUITE...]`.

Parameters, updates, floating-point operations of the loss and gradient of an update, in
all and for each parameter, milliseconds of one and seconds of a run of them: as
recorded on two CPU cores, or, with `--measure`, as measured on this machine. `--record`
measures, and records. Tasks for an accelerator have a star.
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

RECORD = Path(__file__).with_name("costs.json")
COLUMNS = (
    "task",
    "parameters",
    "steps",
    "Mflop/step",
    "flop/parameter",
    "ms/step",
    "seconds",
)
WIDE = 200  # so that no name is cut; tables take the width that they need


def recorded() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns {suite: {task: steps and `costs.Cost`}}, as recorded."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def measured(name: str) -> dict[str, dict[str, Any]]:
    """Returns the costs of a suite's tasks on this machine."""
    from tasks.costs import cost

    suites = _suites()
    with command_line.Pulse() as pulse:
        found = {}
        for task, entry in suites.find(name).items():
            pulse.begin(f"measuring {name}, {task}", aloud=False)
            costs = cost(suites.family(entry))._asdict()
            mark = {"accelerator": True} if entry.accelerator else {}
            found[task] = {"steps": entry.num_steps} | mark | costs
    return found


def _suites() -> Any:
    """Returns the module of suites: seconds of imports, needed by no recorded cost."""
    from tasks import suites

    return suites


def show(name: str, tasks: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Prints a suite, a line a task."""
    table = Table(title=name, title_justify="left", box=SIMPLE, pad_edge=False)
    for column in COLUMNS:
        justify = "left" if column == COLUMNS[0] else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for task, found in tasks.items():
        table.add_row(
            task + " *" * ("accelerator" in found),
            f"{found['params']:,}",
            f"{found['steps']:,}",
            f"{found['flops'] / 1e6:.3g}",
            f"{found['flops'] / found['params']:,.0f}",
            f"{1e3 * found['seconds']:.2f}",
            _short(found["seconds"] * found["steps"]),
        )
    console.print(table)


def _short(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the suites named on the command line, or all; a new one is measured."""
    record = recorded()
    known = f"{', '.join(record)}, or module:attribute of a dict of entries"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=known)
    for name, what in (("measure", "here"), ("record", "and record")):
        text = f"measure {what}, which takes a minute a suite"
        parser.add_argument(f"--{name}", action="store_true", help=text)
    given = parser.parse_args(arguments)
    measuring = given.measure or given.record
    names = given.suites or ([*_suites().SUITES] if measuring else [*record])
    for name in names:
        try:
            _ = name in record or _suites().find(name)
        except ValueError as error:
            parser.error(str(error))
    for name in names:
        if measuring or name not in record:
            record[name] = measured(name)
        show(name, record[name], Console(highlight=False, width=WIDE))
    if given.record:
        shipped = {name: record[name] for name in _suites().SUITES if name in record}
        text = json.dumps(shipped, indent=1) + "\n"
        RECORD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
