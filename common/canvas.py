"""How pictures look: legible without colour, legends below the panels."""

import io
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FONT = "DejaVu Sans"  # what Matplotlib lays text out with
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 3)))


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


def png(
    draws: Sequence[Sequence[Callable[[Axes], None]]],
    *,
    theme: Theme = LIGHT,
    height: float = 3.4,
) -> bytes:
    """Returns rows of panels, the last row perhaps shorter, as a PNG.

    Args:
      draws: draw all of a panel but its legend.
      theme: the colours of the ground and the axes.
      height: inches of a row; all rows are 9.6 inches wide.
    """
    panels = [*itertools.chain(*draws)]
    with matplotlib.rc_context(look(theme)):
        figure = Figure(figsize=(9.6, height * len(draws)), layout="constrained")
        grid = figure.subplots(len(draws), len(draws[0]), squeeze=False)
        for draw, axes in zip(panels, grid.flat, strict=False):
            draw(axes)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        legend(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def look(theme: Theme) -> dict[str, Any]:
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


def legend(figure: Figure) -> None:
    """Puts one legend of all panels below, as wide as fits, where it adds to them."""
    found = {}
    for axes in reversed(figure.axes):
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if not found:
        return
    points = 72 * figure.get_figwidth()
    columns = max(1, int(points // (42 + 6 * max(map(len, found)))))
    figure.legend(found.values(), found, loc="outside lower center", ncols=columns)
    more = math.ceil(len(found) / columns) - 1
    figure.set_figheight(figure.get_figheight() + 0.17 * more)
