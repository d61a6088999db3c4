"""How pictures look: legible without colour, on light ground and on dark."""

import hashlib
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lopt.baselines import BASELINES

DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LOOKS = [(DASHES[i % 5], MARKERS[i % 11]) for i in range(5 * 11)]  # all there are
SIZE = (4.4, 3.1)  # inches; of a panel, wide enough to read on a phone
FONT = "DejaVu Sans"  # what Matplotlib lays text out with

Styles = dict[str, dict[str, Any]]
Draw = Callable[[Axes, Styles], None]


class Theme(NamedTuple):
    """Colours; those of lines are Okabe and Ito's, lighter ones on dark ground."""

    ground: str
    ink: str
    grid: str
    candidates: tuple[str, ...]
    baselines: tuple[str, ...]


LIGHT = Theme(
    "#ffffff",
    "#1a1a1a",
    "#dddddd",
    ("#d55e00", "#aa3377", "#b8860b", "#c0272d", "#8c510a"),
    ("#0072b2", "#009e73", "#7a5195", "#666666", "#117a8b", "#5a7d1a", "#3f51b5"),
)
DARK = Theme(
    "#14171a",
    "#e8e8e8",
    "#3a3f44",
    ("#ff8c3b", "#ee88bb", "#e3c04a", "#ff6f61", "#d9a06b"),
    ("#56b4e9", "#2cc79d", "#c9a0ff", "#aaaaaa", "#5fd3e0", "#a9c95b", "#8fa2ff"),
)


def styles(optimizers: Mapping[str, Mapping[str, Any]], theme: Theme) -> Styles:
    """Returns {optimizer: how Matplotlib draws it}, candidates first.

    A name looks the same whatever else there is: one of `BASELINES` by its place there,
    others by a hash. No two have one marker and dash: where others would, the later by
    name takes the next look that is free.

    Args:
      optimizers: of the settings of `Results`.
      theme: whose colours to use.
    """
    places = _places(optimizers)
    order = sorted(optimizers, key=lambda name: optimizers[name]["baseline"])
    return {
        name: _style(name, places[name], optimizers[name]["baseline"], theme)
        for name in order
    }


def _places(names: Iterable[str]) -> dict[str, int]:
    """Returns {name: its place in `LOOKS`}, past the end where these do not suffice."""
    house = list(BASELINES)
    found = {name: house.index(name) for name in names if name in house}
    others = range(len(house), len(LOOKS))
    for name in sorted({*names} - found.keys()):
        start = int.from_bytes(_digest(name)[:8]) % len(others)
        free = [
            i for i in (*others[start:], *others[:start]) if i not in found.values()
        ]
        found[name] = free[0] if free else len(LOOKS) + len(found)
    return found


def _digest(name: str) -> bytes:
    """Returns bytes that are the same in every process."""
    return hashlib.sha256(name.encode()).digest()


def _style(name: str, place: int, baseline: bool, theme: Theme) -> dict[str, Any]:
    house = name in BASELINES
    colours = theme.baselines if baseline or house else theme.candidates
    shade = place if house else _digest(name)[8]  # the released rules differ in it
    dash, marker = LOOKS[place % len(LOOKS)]
    return {
        "color": colours[shade % len(colours)],
        "ls": dash,
        "marker": marker,
        "lw": 1.4 if baseline else 2.2,
        "ms": 4.5 if baseline else 5.5,
        "mec": theme.ground,
        "mew": 0.5,
        "zorder": 2.5 if baseline else 3,
    }


def svg(
    draw: Draw,
    optimizers: Mapping[str, Any],
    theme: Theme,
    *,
    size: tuple[float, float] = SIZE,
) -> str:
    """Returns one panel as SVG; its text is text, in the reader's font.

    Args:
      draw: (axes, styles), draws all but a legend.
      optimizers: as of `styles`.
      theme: whose colours to use.
      size: in inches.
    """
    with matplotlib.rc_context(_look(theme)):
        canvas = Figure(figsize=size, layout="constrained")
        axes = canvas.subplots()
        draw(axes, styles(optimizers, theme))
        _legend(canvas)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return _shortened(buffer.getvalue())


def png(draws: list[list[Draw]], optimizers: Mapping[str, Any]) -> bytes:
    """Returns rows of panels, the last perhaps shorter, as a light PNG for a README."""
    panels = [*itertools.chain(*draws)]
    rows, columns = len(draws), len(draws[0])
    with matplotlib.rc_context(_look(LIGHT)):
        canvas = Figure(figsize=(9.6, 3.4 * rows), layout="constrained")
        grid = canvas.subplots(rows, columns, squeeze=False)
        for draw, axes in zip(panels, grid.flat, strict=False):
            draw(axes, styles(optimizers, LIGHT))
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        _legend(canvas)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _look(theme: Theme) -> dict[str, Any]:
    """Returns settings of Matplotlib."""
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color")
    grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys((*inked, "ytick.color"), theme.ink),
        **dict.fromkeys(grounds, theme.ground),
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "font.family": FONT,
        "text.parse_math": False,  # names may hold dollars
        "font.size": 9.5,
        "grid.color": theme.grid,
        "legend.frameon": False,
        "legend.columnspacing": 1.2,
        "legend.handlelength": 2.8,
        "path.simplify_threshold": 0.3,
        "svg.fonttype": "none",
        "svg.hashsalt": "lopt",  # equal results make equal files
    }


def _legend(canvas: Figure) -> None:
    """Puts one legend of all panels below, as wide as fits, where it adds to them."""
    found = {}
    for axes in reversed(canvas.axes):
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if not found:
        return
    points = 72 * canvas.get_figwidth()
    columns = max(1, int(points // (42 + 6 * max(map(len, found)))))
    canvas.legend(found.values(), found, loc="outside lower center", ncols=columns)
    more = math.ceil(len(found) / columns) - 1
    canvas.set_figheight(canvas.get_figheight() + 0.17 * more)


def _shortened(text: str) -> str:
    """Returns an SVG without what it can do without; half as long.

    That is its prolog, metadata, fractions below a tenth of a point, blanks, and the
    letter before each point of a line.
    """
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\s*\n\s*", " ", text[text.index("<svg") :])
    text = re.sub(r'"[^"<>]*"', lambda x: _terse(x[0]), text)
    return text.replace("*{", "text{font-family:system-ui,sans-serif}*{", 1)


def _terse(value: str) -> str:
    """Returns the value of an attribute, with fewer letters."""
    if ":" not in value:  # a place, and no style
        value = re.sub(r"(\d\.\d)\d+", r"\1", value)
    value = value.replace(f"font-family: '{FONT}'; ", "")
    return value.replace(": ", ":").replace("; ", ";").replace(" L ", " ")
