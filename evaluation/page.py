"""One self-contained HTML page: the verdict, the curves, the protocol."""

import base64
import importlib.resources
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2

from evaluation import plots
from evaluation.protocol import Results
from evaluation.summary import NAMES
from evaluation.tuning import FINAL


class Cell(NamedTuple):
    """A metric of one optimizer, as text.

    Attributes:
      mean: three digits, or the number of seeds that diverged.
      interval: its bounds, in brackets; empty without one.
      accuracy: in percent; empty but for validation.
      lowest: whether no other optimizer has a lower mean.
    """

    mean: str
    interval: str
    accuracy: str
    lowest: bool


class Line(NamedTuple):
    """An optimizer at one length: a cell for each of `NAMES`."""

    name: str
    candidate: bool
    budget: str
    cells: list[Cell]


class Table(NamedTuple):
    """Optimizers at one length."""

    num_steps: int
    lines: list[Line]


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Returns one table for each length, as text, with candidates first."""
    found = []
    for length in summary["settings"]["num_steps"]:
        rows = [row for row in summary["rows"] if row["num_steps"] == length]
        names = dict.fromkeys(row["name"] for row in rows)
        lines = [_line(name, rows, summary) for name in names]
        lines.sort(key=lambda line: not line.candidate)
        found.append(Table(length, lines))
    return found


def settings(values: Mapping[str, Any]) -> str:
    """Returns named values as text.

    >>> settings({"schedule": "linear", "learning_rate": 10 ** -1.5})
    'schedule linear, learning rate 0.0316'
    """
    texts = {
        name: f"{x:.3g}" if isinstance(x, float) else x for name, x in values.items()
    }
    return ", ".join(f"{name.replace('_', ' ')} {x}" for name, x in texts.items())


def page(results: Results, summary: Mapping[str, Any]) -> str:
    """Returns the page; its images are in it, and nothing is loaded from elsewhere."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["settings"] = settings
    source = importlib.resources.files("evaluation") / "page.html"
    return environment.from_string(source.read_text()).render(
        title=f"Optimizers on {summary['settings']['family']}",
        s=summary,
        names=NAMES,
        tables=tables(summary),
        panels=_panels(results, summary),
        final=FINAL,
    )


def _line(name: str, rows: list[dict[str, Any]], summary: Mapping[str, Any]) -> Line:
    own = {row["metric"]: row for row in rows if row["name"] == name}
    trials = summary["budget"][name]["trials"]
    cells = [
        _cell(own[metric], [row for row in rows if row["metric"] == metric])
        for metric in NAMES
    ]
    budget = f"{trials} trials" if trials else "not tuned"
    return Line(name, own["mean"]["candidate"], budget, cells)


def _cell(row: dict[str, Any], column: list[dict[str, Any]]) -> Cell:
    if row["mean"] is None:
        count = f"{len(row['diverged'])} of {len(row['values'])} diverged"
        return Cell(count, "", "", False)
    lowest = min(x["mean"] for x in column if x["mean"] is not None)
    valid = row["metric"] == "valid" and row["accuracy"] is not None
    accuracy = f"{row['accuracy']:.1%}" if valid else ""
    interval = f"[{_number(row['low'])}, {_number(row['high'])}]"
    return Cell(_number(row["mean"]), interval, accuracy, row["mean"] == lowest)


def _number(value: float) -> str:
    """Returns three significant digits, in plain notation where that is short.

    >>> _number(0.0096001), _number(12.0), _number(1.5e-7)
    ('0.00960', '12.0', '1.50e-07')
    """
    if value == 0 or not 1e-4 <= abs(value) < 1e4:
        return f"{value:.2e}" if value else "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _panels(results: Results, summary: Mapping[str, Any]) -> list[dict[str, str]]:
    themes = {"light": plots.LIGHT, "dark": plots.DARK}
    found = []
    for length in results.settings["num_steps"]:
        for split in plots.SPLITS:
            images = {
                name: _data_uri(
                    plots.panel(results, length=length, split=split, theme=theme)
                )
                for name, theme in themes.items()
            }
            caption = f"{plots.TITLES[split].capitalize()}, {length} steps"
            alt = f"{caption}, log scale. {_ends(summary, length, split)}"
            found.append({**images, "caption": caption, "alt": alt})
    return found


def _ends(summary: Mapping[str, Any], length: int, split: str) -> str:
    """Returns, for those who do not see the curves, what they come to."""
    metric = plots.SPLITS[split]
    rows = [
        row
        for row in summary["rows"]
        if (row["num_steps"], row["metric"]) == (length, metric)
    ]
    numbers = [
        f"{row['name']} {'diverged' if row['mean'] is None else _number(row['mean'])}"
        for row in rows
    ]
    return f"{NAMES[metric].capitalize()}: {', '.join(numbers)}."


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
