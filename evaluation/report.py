"""What an evaluation leaves: a table, results.json, curves, a PNG and a page."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation import page, plots
from evaluation.protocol import Results
from evaluation.summary import NAMES, summary


def write(
    results: Results,
    directory: str | os.PathLike,
    *,
    reference: str = "adam",
    config: Any = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Writes an evaluation to a directory, shows it, and returns its summary.

    Files are `results.json` (all numbers but the curves), `curves.npz` (the curves, as
    `name/steps/metric/train`, `valid`, `accuracy` and `valid_steps`), `curves.png` and
    `index.html`.

    Args:
      results: from `evaluate`.
      directory: created if need be; files of these names are replaced.
      reference: the optimizer whose steps speed-ups are measured in.
      config: JSON values to record with the results.
      console: where to show the table; the terminal by default.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    said = {**summary(results, reference=reference), "config": config}
    text = json.dumps(said, indent=1, allow_nan=False)
    (directory / "results.json").write_text(text + "\n")
    np.savez_compressed(directory / "curves.npz", **_arrays(results))
    (directory / "curves.png").write_bytes(plots.figure(results))
    (directory / "index.html").write_text(page.page(results, said))
    show(said, console or Console(highlight=False))
    return said


def show(summary: dict[str, Any], console: Console) -> None:
    """Prints verdict and tables: plain lines when not on a terminal."""
    for table in page.tables(summary):
        (_rich if console.is_terminal else _plain)(table, console)
    for row in summary["speedups"]:
        console.print(
            f"{row['name']}, {row['num_steps']} steps: speed-up "
            f"{'over ' if row['censored'] else ''}{row['ratio']:.2f} in steps to the "
            f"same final training loss, against {summary['reference']}",
            soft_wrap=True,
        )
    for note in summary["notes"]:
        console.print(f"warning: {note}", soft_wrap=True, markup=False)
    for sentence in summary["verdict"]:
        console.print(sentence, soft_wrap=True, markup=False, style="bold")


def _rich(table: page.Table, console: Console) -> None:
    drawn = Table(title=f"{table.num_steps} steps", title_justify="left")
    drawn.add_column("optimizer")
    for name in NAMES.values():
        drawn.add_column(name)
    for line in table.lines:
        cells = [Text(_text(c), "bold" if c.lowest else "") for c in line.cells]
        drawn.add_row(Text(f"{line.name} ({line.budget})"), *cells)
    console.print(drawn)


def _plain(table: page.Table, console: Console) -> None:
    for line in table.lines:
        cells = [
            f"{name} {_text(cell)}"
            for name, cell in zip(NAMES.values(), line.cells, strict=True)
        ]
        console.print(
            f"{table.num_steps} steps  {line.name} ({line.budget}): {'; '.join(cells)}",
            soft_wrap=True,
            markup=False,
        )


def _text(cell: page.Cell) -> str:
    accuracy = f" ({cell.accuracy} right)" if cell.accuracy else ""
    return f"{cell.mean} {cell.interval}{accuracy}"


def _arrays(results: Results) -> dict[str, np.ndarray]:
    arrays = {}
    for entry in results.entries:
        prefix = f"{entry.name.replace('/', '_')}/{entry.num_steps}/{entry.metric}"
        found = entry.curves._asdict()
        arrays |= {
            f"{prefix}/{key}": x if key == "valid_steps" else x[0]
            for key, x in found.items()
        }
    return arrays
