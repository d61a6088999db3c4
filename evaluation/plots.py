"""Loss curves as pictures, legible without colour."""

import io
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from evaluation.protocol import Entry, Results
from evaluation.scores import smooth

SPLITS = {"train": "mean", "valid": "valid"}  # panel -> what its runs are tuned for
TITLES = {"train": "training loss", "valid": "validation loss"}
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
    ("#d55e00", "#aa3377", "#b8860b"),
    ("#0072b2", "#009e73", "#7a5195", "#666666"),
)
DARK = Theme(
    "#14171a",
    "#e8e8e8",
    "#3a3f44",
    ("#ff8c3b", "#ee88bb", "#e3c04a"),
    ("#56b4e9", "#2cc79d", "#c9a0ff", "#aaaaaa"),
)


def figure(results: Results, *, theme: Theme = LIGHT) -> bytes:
    """Returns a PNG: a row of panels for each length, training beside validation."""
    lengths = results.settings["num_steps"]
    canvas = Figure(figsize=(9.6, 3.7 * len(lengths)), layout="constrained")
    axes = canvas.subplots(len(lengths), 2, squeeze=False)
    for row, length in zip(axes, lengths, strict=True):
        for axis, split in zip(row, SPLITS, strict=True):
            _panel(axis, results, length, split, theme)
            axis.set_title(f"{TITLES[split].capitalize()}, {length} steps")
    return _png(canvas, theme)


def panel(results: Results, *, length: int, split: str, theme: Theme) -> bytes:
    """Returns a PNG of one panel, wide enough to read on a phone."""
    canvas = Figure(figsize=(5.2, 3.9), layout="constrained")
    axis = canvas.subplots()
    _panel(axis, results, length, split, theme)
    return _png(canvas, theme)


def _panel(axis: Any, results: Results, length: int, split: str, theme: Theme) -> None:
    """Draws one line and band for each optimizer, those tuned for the panel."""
    entries = [
        e for e in results.entries if (e.num_steps, e.metric) == (length, SPLITS[split])
    ]
    # Candidates last, so that they lie on top.
    for entry, style in _styled(entries, theme):
        steps, losses = _line(entry, split)
        # A line ends where the first of its runs diverges.
        losses = np.where(np.isfinite(losses), losses, np.nan)
        low, high = np.quantile(losses, [0.1, 0.9], axis=0)
        axis.plot(steps, losses.mean(0), label=entry.name, **style)
        axis.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)
    axis.set_yscale("log")
    axis.set_xlabel("updates")
    axis.set_ylabel(TITLES[split])
    axis.set_xlim(0, length)
    order = [e.name for e in results.entries]
    handles, labels = axis.get_legend_handles_labels()
    pairs = sorted(zip(handles, labels, strict=True), key=lambda x: order.index(x[1]))
    if pairs:
        look = {"facecolor": theme.ground, "edgecolor": "none", "framealpha": 0.7}
        axis.legend(*zip(*pairs, strict=True), handlelength=3.2, **look)


def _styled(entries: Sequence[Entry], theme: Theme) -> list[tuple[Entry, dict]]:
    styled = []
    for candidate, colours in ((False, theme.baselines), (True, theme.candidates)):
        own = [e for e in entries if e.candidate == candidate]
        dashes = DASHES if candidate else DASHES[1:]
        kinds = zip(itertools.cycle(colours), itertools.cycle(dashes), strict=False)
        for entry, (colour, dash) in zip(own, kinds, strict=False):
            width = 2.2 if candidate else 1.6
            styled.append((entry, {"color": colour, "ls": dash, "lw": width}))
    return styled


def _line(entry: Entry, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns [u] steps and [s, u] losses; those of training are smoothed."""
    found = entry.curves
    if split == "valid":
        return found.valid_steps, found.valid[0]
    return 1 + np.arange(entry.num_steps), smooth(found.train[0])


def _png(canvas: Figure, theme: Theme) -> bytes:
    """Returns the figure in a theme's colours."""
    canvas.set_facecolor(theme.ground)
    for axis in canvas.axes:
        axis.set_facecolor(theme.ground)
        axis.grid(True, which="major", color=theme.grid, lw=0.8)
        axis.tick_params(which="both", colors=theme.ink)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(theme.ink)
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set_color(theme.ink)
        for text in axis.get_legend().get_texts() if axis.get_legend() else ():
            text.set_color(theme.ink)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"savefig.facecolor": theme.ground}):
        canvas.savefig(buffer, format="png", dpi=144)
    return buffer.getvalue()
