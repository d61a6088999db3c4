"""What an evaluation found: cells of optimizers and tasks, on disk and back."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.runs.costs import Cost
from evaluation.runs.curves import Curves
from evaluation.runs.tuning import Choice

FILES = ("cells.json", "curves.npz")


class Chosen(NamedTuple):
    """One choice of hyperparameters on the reporting seeds.

    Attributes:
      choice: of the tuning; None for defaults, and for what is not tuned.
      curves: with h = 1.
    """

    choice: Choice | None
    curves: Curves


class Tried(NamedTuple):
    """The trials of the tuning.

    Attributes:
      hyperparameters: of each trial.
      values: {metric: [h, s]} on the tuning seeds; infinite where a run diverged.
      valid: [h, s, v], validation losses at each look.
    """

    hyperparameters: list[dict[str, Any]]
    values: dict[str, np.ndarray]
    valid: np.ndarray


class Cell(NamedTuple):
    """One optimizer on one task.

    Attributes:
      optimizer: its name.
      task: its name.
      error: why there is nothing else; None where there is.
      chosen: {metric of `METRICS`: what was tuned for it}, and "default", untuned.
      tried: the trials; None for what is not tuned.
      aims: [s], the best validation loss within 3/4 of the steps, on the reporting
        seeds, as targets are set by; of baselines only.
      longer: {factor: curves over so many times the steps}, tuned for the final loss;
        of the reference only.
      cost: of a step.
      state_bytes: per parameter.
    """

    optimizer: str
    task: str
    error: str | None = None
    chosen: dict[str, Chosen] = {}
    tried: Tried | None = None
    aims: np.ndarray | None = None
    longer: dict[int, Curves] = {}
    cost: Cost | None = None
    state_bytes: float | None = None

    def best(self, metric: str) -> Chosen:
        """Returns what was tuned for a metric, or what is not tuned."""
        return self.chosen.get(metric) or self.chosen["default"]


class Results(NamedTuple):
    """All of an evaluation.

    Attributes:
      settings: JSON values: `suite`, `tasks` ({name: {"family", "num_steps", "params",
        "batch", "flops", "program", "growth", "twin"}}), `optimizers` ({name:
        {"baseline", "trials", "sequential"}}), `seeds`, `tuning`, `reference`,
        `reference_lengths`, `looks`; older evaluations have no `batch`, `flops`, `twin`
        and `sequential`. `batch` is a `tasks.costs.BatchSize`, `flops` the operations
        of a step's loss and gradient.
      cells: of every optimizer on every task, by task.
      seconds: {"total", "compile"}: wall-clock, and compiling as part of it.
      notes: warnings, such as optima at the edge of a range.
      environment: versions and hardware.
      made: {"date": in UTC, as 2026-11-27; "command": by what; "revision": of this
        code, None where it is not known}; older evaluations lack some of it.
    """

    settings: dict[str, Any]
    cells: tuple[Cell, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...]
    environment: dict[str, Any]
    made: dict[str, str] = {}

    def __repr__(self) -> str:
        """Returns a few lines: what was judged, the verdict, and where the rest is."""
        from evaluation.report import (
            brief,  # which is above: it reads what is said here
        )

        return brief.text(self)

    def _repr_html_(self) -> str:
        """Returns the standings for notebooks."""
        from evaluation.report import brief

        return brief.html(self)

    def cell(self, optimizer: str, task: str) -> Cell:
        """Returns one cell."""
        return next(x for x in self.cells if (x.optimizer, x.task) == (optimizer, task))


def save(results: Results, directory: Path) -> None:
    """Writes `FILES` to a directory that exists."""
    arrays: dict[str, np.ndarray] = {}
    cells = [_packed(cell, f"{i}", arrays) for i, cell in enumerate(results.cells)]
    packed = results._asdict() | {"cells": cells}
    # Losses that are not finite are infinities in this file, as JSON has none.
    text = json.dumps(packed, indent=1)
    (directory / FILES[0]).write_text(text + "\n", encoding="utf-8")
    with open(directory / FILES[1], "wb") as file:
        np.savez_compressed(file, **arrays)


def load(directory: str | os.PathLike) -> Results:
    """Returns what `save` wrote.

    Raises:
      ValueError: if the directory holds no evaluation, or a damaged one.
    """
    directory = Path(directory)
    try:
        packed = json.loads((directory / FILES[0]).read_text(encoding="utf-8"))
        arrays = dict(np.load(directory / FILES[1]))
        cells = [
            _unpacked(cell, f"{i}", arrays) for i, cell in enumerate(packed["cells"])
        ]
    except FileNotFoundError as error:
        raise ValueError(f"{directory} holds no evaluation: {error}.") from error
    except Exception as error:
        raise ValueError(
            f"the evaluation in {directory} is damaged: {error}."
        ) from error
    return Results(
        settings=packed["settings"],
        cells=tuple(cells),
        seconds=packed["seconds"],
        notes=tuple(packed["notes"]),
        environment=packed["environment"],
        made=packed["made"] if "made" in packed else {},
    )


def _packed(cell: Cell, key: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns a cell as JSON values, and puts its arrays among the others."""
    for metric, chosen in cell.chosen.items():
        _put_curves(arrays, f"{key}/chosen/{metric}", chosen.curves)
    for factor, found in cell.longer.items():
        _put_curves(arrays, f"{key}/longer/{factor}", found)
    if cell.aims is not None:
        arrays[f"{key}/aims"] = cell.aims
    tried = None
    if cell.tried:
        tried = cell.tried.hyperparameters
        arrays[f"{key}/tried/looks"] = cell.tried.valid
        arrays |= {f"{key}/tried/{m}": x for m, x in cell.tried.values.items()}
    return {
        "optimizer": cell.optimizer,
        "task": cell.task,
        "error": cell.error,
        "chosen": {metric: chosen.choice for metric, chosen in cell.chosen.items()},
        "tried": tried,
        "metrics": list(cell.tried.values) if cell.tried else [],
        "longer": list(cell.longer),
        "cost": cell.cost,
        "state_bytes": cell.state_bytes,
    }


def _unpacked(packed: dict[str, Any], key: str, arrays: dict[str, Any]) -> Cell:
    def curves(name: str) -> Curves:
        return Curves(*(arrays[f"{key}/{name}/{field}"] for field in Curves._fields))

    chosen = {
        metric: Chosen(choice and _choice(choice), curves(f"chosen/{metric}"))
        for metric, choice in packed["chosen"].items()
    }
    tried = packed["tried"]
    if tried is not None:
        values = {m: arrays[f"{key}/tried/{m}"] for m in packed["metrics"]}
        tried = Tried(tried, values, arrays[f"{key}/tried/looks"])
    return Cell(
        optimizer=packed["optimizer"],
        task=packed["task"],
        error=packed["error"],
        chosen=chosen,
        tried=tried,
        aims=arrays.get(f"{key}/aims"),
        longer={factor: curves(f"longer/{factor}") for factor in packed["longer"]},
        cost=packed["cost"] and Cost(*packed["cost"]),
        state_bytes=packed["state_bytes"],
    )


def _choice(packed: list[Any]) -> Choice:
    hyperparameters, score, edges = packed
    return Choice(hyperparameters, score, tuple(edges))


def _put_curves(arrays: dict[str, np.ndarray], prefix: str, found: Curves) -> None:
    arrays |= {f"{prefix}/{name}": x for name, x in found._asdict().items()}
