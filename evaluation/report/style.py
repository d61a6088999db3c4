"""How pictures look: legible without colour, on light ground and on dark."""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common import canvas
from common.canvas import DASHES, FONT, LIGHT, Theme
from lopt.baselines import BASELINES

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LOOKS = [(DASHES[i % 5], MARKERS[i % 11]) for i in range(5 * 11)]  # all there are
SIZE = (4.4, 3.1)  # inches; of a panel, wide enough to read on a phone

Styles = dict[str, dict[str, Any]]
Draw = Callable[[Axes, Styles], None]


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
    with matplotlib.rc_context(canvas.look(theme)):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes, styles(optimizers, theme))
        canvas.legend(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _shortened(buffer.getvalue())


def png(draws: list[list[Draw]], optimizers: Mapping[str, Any]) -> bytes:
    """Returns rows of panels, the last perhaps shorter, as a light PNG for a README."""
    looks = styles(optimizers, LIGHT)
    return canvas.png([[_with(looks, draw) for draw in row] for row in draws])


def _with(looks: Styles, draw: Draw) -> Callable[[Axes], None]:
    return lambda axes: draw(axes, looks)


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
