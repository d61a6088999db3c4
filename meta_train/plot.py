"""Draws a run's meta-losses: `python -m meta_train.plot WORKDIR` -> `losses.png`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from common import canvas, command_line
from meta_train import logging

SHARE = 0.05  # of a curve's points, over which it is smoothed


def curves(workdir: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Returns what a run's curves show, and {family: [2, n]}, meta-steps and losses.

    Meta-validation where there is any: other losses, of other tasks each time and at
    whatever inner steps their runs are, say less; they are smoothed.
    """
    rows = logging.read(workdir / logging.VALIDATION)
    if rows:
        each = {name: _points(rows, name) for name in rows[0] if name != "step"}
        return "meta-validation", {name: x for name, x in each.items() if x.size}
    rows = logging.read(workdir / logging.METRICS)
    names = [name for row in rows for name in row if name.split("/")[0] == "loss"]
    each = {
        name.removeprefix("loss/"): _points(rows, name) for name in dict.fromkeys(names)
    }
    return "meta-loss", {n: _smoothed(*x) for n, x in each.items() if x.size}


def picture(title: str, found: dict[str, np.ndarray]) -> bytes:
    """Returns a PNG with a panel for each curve."""
    panels = [_panel(title, name, *x) for name, x in found.items()]
    columns = min(3, len(panels))
    rows = [panels[n : n + columns] for n in range(0, len(panels), columns)]
    return canvas.png(rows, height=3.4 if columns < 3 else 2.6)


def _panel(
    title: str, name: str, steps: np.ndarray, losses: np.ndarray
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        marker = "." if len(steps) < 50 else ""
        axes.plot(steps, losses, color=canvas.LIGHT.candidates[0], marker=marker)
        axes.set(title=name, xlabel="meta-steps", ylabel=title)
        if losses.min() > 0:  # else they are logarithms
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5), numticks=9))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()

    return draw


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the losses of a work directory, and prints where each began and ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=command_line.path, help="of a run")
    workdir = parser.parse_args(arguments).workdir
    if not (workdir / logging.METRICS).exists():
        sys.exit(f"error: {workdir} is not the work directory of a run.")
    title, found = curves(workdir)
    if not found:
        sys.exit(f"error: the run in {workdir} has no losses yet.")
    (workdir / "losses.png").write_bytes(picture(title, found))
    for name, (_, losses) in found.items():
        print(f"{name}: {losses[0]:.4f} -> {losses[-1]:.4f}")


def _points(rows: list[dict[str, float | None]], name: str) -> np.ndarray:
    """Returns [2, n], the meta-steps and values of a metric where it has any."""
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return np.array(points, float).reshape(-1, 2).T


def _smoothed(steps: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Returns means over stretches of the curve, each `SHARE` of its points."""
    width = max(1, round(SHARE * len(losses)))
    count = len(losses) // width * width
    return np.stack([x[:count].reshape(-1, width).mean(1) for x in (steps, losses)])


if __name__ == "__main__":
    main()
