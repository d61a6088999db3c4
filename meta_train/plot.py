"""Draws a run's meta-losses: `python -m meta_train.plot WORKDIR` -> `losses.png`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from meta_train import logging

SHARE = 0.05  # of a curve's points, over which it is smoothed


def curves(rows: list[dict[str, float | None]]) -> dict[str, np.ndarray]:
    """Returns {name: [2, n]}, meta-steps and smoothed losses, of each family drawn.

    Args:
      rows: of `metrics.jsonl`; "loss" is of all, "loss/<family>" of one.
    """
    names = [name for name in rows[0] if name.split("/")[0] == "loss"]
    found = {}
    for name in names:
        points = [(r["step"], r[name]) for r in rows if r[name] is not None]
        if points:
            steps, losses = np.array(points, float).T
            found[name.removeprefix("loss/")] = _smoothed(steps, losses)
    return found


def figure(found: dict[str, np.ndarray]) -> Figure:
    """Returns a panel for each curve."""
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    canvas = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    axes = canvas.subplots(lines, columns, squeeze=False).ravel()
    for axis, (name, (steps, losses)) in zip(axes, found.items(), strict=False):
        axis.plot(steps, losses, color="#d55e00")
        axis.set_title(name, fontsize=10)
        axis.grid(True, color="#dddddd")
        axis.set_xlabel("meta-step")
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    canvas.suptitle("meta-loss")
    return canvas


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the losses of a work directory, and prints where each began and ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path, help="of a run")
    workdir = parser.parse_args(arguments).workdir
    found = curves(logging.read(workdir / "metrics.jsonl"))
    figure(found).savefig(workdir / "losses.png", dpi=144)
    for name, (_, losses) in found.items():
        print(f"{name}: {losses[0]:.4f} -> {losses[-1]:.4f}")


def _smoothed(steps: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Returns means over stretches of the curve, each `SHARE` of its points."""
    width = max(1, round(SHARE * len(losses)))
    count = len(losses) // width * width
    return np.stack([x[:count].reshape(-1, width).mean(1) for x in (steps, losses)])


if __name__ == "__main__":
    main()
