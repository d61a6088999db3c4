"""What an evaluation leaves: tables, results.json, curves, Markdown and a page."""

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.report import page, pictures, tables, text, wording
from evaluation.report.content import Summary, plain
from evaluation.report.markdown import markdown
from evaluation.report.summary import summary
from evaluation.runs import results
from evaluation.runs.results import Results


def write(
    found: Results,
    directory: str | os.PathLike,
    *,
    title: str | None = None,
    config: Any = None,
    console: Console | None = None,
) -> Summary:
    """Writes an evaluation to a directory, shows it, and returns its summary.

    Files are those of `results.save`, with all curves; `results.json`, the summary with
    all numbers but the curves; `curves.png` and `report.md`, for a README; and
    `index.html`.

    Args:
      found: from `evaluate`.
      directory: created if need be; files of these names are replaced.
      title: of page and Markdown; by default it names the suite.
      config: JSON values to record with the results.
      console: where to show the tables; the terminal by default.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    results.save(found, directory)
    what = summary(found, title=title)
    numbers = {**plain(what), "config": config}
    files = {
        "results.json": json.dumps(numbers, indent=1, allow_nan=False) + "\n",
        "report.md": markdown(what),
        "index.html": page.page(found, what),
    }
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")
    (directory / "curves.png").write_bytes(pictures.readme(found, what))
    show(what, console or Console(highlight=False))
    return what


def show(summary: Summary, console: Console) -> None:
    """Prints standings and verdict: plain columns when not on a terminal."""
    table = tables.standings(summary)
    if console.is_terminal:
        _rich(table, console)
    else:
        for line in text.lines(table):
            say(line, console)
        say("", console)
    for failure in wording.failures(summary):
        say(failure, console, style="red")
    for note in summary.notes:
        say(f"warning: {note}", console)
    for verdict in summary.verdict:
        say(verdict.headline, console, style="bold")
        for sentence in verdict.rest:
            say(sentence, console)


def _rich(table: tables.Table, console: Console) -> None:
    """Prints a row for each measure: few optimizers fit where many measures do not."""
    drawn = Table(show_lines=True)
    drawn.add_column("")
    for line in table.lines:
        head = Text(line.name, "bold") + Text(f"\n{line.note}", "dim")
        drawn.add_column(head)
    for column, *fields in zip(
        table.columns, *(line.fields for line in table.lines), strict=True
    ):
        texts = [
            Text(x.text, "bold" if x.best else "")
            + Text("".join(f"\n{note}" for note in x.notes), "dim")
            for x in fields
        ]
        drawn.add_row(column, *texts)
    console.print(drawn)


def say(line: str, console: Console, **options: Any) -> None:
    """Prints a line: wrapped at words on a terminal, else as it is."""
    soft = not console.is_terminal
    console.print(line, soft_wrap=soft, markup=False, **options)
