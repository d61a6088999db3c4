"""Metrics to JSONL and TensorBoard, progress on the terminal."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
)

from common import command_line, disk

# What `config.log.sink` names: (work directory, "metrics" or "validation", config) ->
# a function that is called with the numbers of each meta-step, `step` among them, and,
# where it has a `close`, closed. After a kill meta-steps since the last checkpoint are
# made again, and come again.
Sink = Callable[[Path, str, dict[str, Any]], Callable[[dict[str, float]], None]]
METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"  # in a work directory


class Journal:
    """Keeps numbers on the device until asked, then writes one line a meta-step.

    The file holds one object a meta-step, in order and each once, also when the run was
    killed and resumed: a resumed run drops the lines past the meta-step it resumes
    from. Losses that are not finite are written as null.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        step: int,
        tensorboard: bool,
        families: Sequence[str] = (),
        sink: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        """Opens `path` to go on after meta-step `step`; TensorBoard's lies beside.

        Without a path nothing is written to disk. Where metrics say which of `families`
        was drawn, its loss is written under its name too. `sink` is called with each
        row.
        """
        self._sink = sink
        if path is not None:
            _keep_until(path, step)
        self._families = tuple(families)
        self._file = open(path or os.devnull, "a", encoding="utf-8")
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._writer = _tensorboard(path, step) if tensorboard else None

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of a meta-step, without waiting for them."""
        self._pending.append((step, metrics))

    def write(self) -> list[dict[str, float]]:
        """Writes what was added since the last call and returns it, as floats."""
        rows = [
            self._named(
                {"step": step} | {name: float(x) for name, x in metrics.items()}
            )
            for step, metrics in jax.device_get(self._pending)
        ]
        self._pending.clear()
        with disk.writing(self._file.name):
            self._file.writelines(json.dumps(_jsonable(row)) + "\n" for row in rows)
            self._file.flush()
        if self._writer is not None:
            for row in rows:
                for name, x in row.items():
                    self._writer.add_scalar(name, x, global_step=row["step"])
            self._writer.flush()
        if self._sink is not None:
            for row in rows:
                self._sink(row)
        return rows

    def _named(self, row: dict[str, float]) -> dict[str, float]:
        if "family" not in row:
            return row
        return row | {f"loss/{self._families[int(row['family'])]}": row["loss"]}

    def close(self) -> None:
        """Closes the files; what was not written is dropped."""
        with contextlib.suppress(OSError):  # of what a full disk did not take
            self._file.close()
        if self._writer is not None:
            self._writer.close()
        if hasattr(self._sink, "close"):
            self._sink.close()


class Bar:
    """Shows meta-steps done, the loss, the rate and the remaining time.

    A moving bar on a terminal; elsewhere a plain line a call. The rate is counted
    from the first call on, so that compiling does not slow it; that call shows none.

    >>> from rich.console import Console
    >>> with Bar(total=100, step=0, console=Console(force_terminal=False)) as bar:
    ...     bar.show(50, loss=0.5)
    ...     bar.show(100, loss=0.25)  # doctest: +ELLIPSIS
    meta-step 50/100  loss 0.5000
    meta-step 100/100  loss 0.2500  ... steps/s  0:00:00 left
    """

    def __init__(self, *, total: int, step: int, console: Console | None = None):
        """Starts at `step` of `total` meta-steps."""
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._pulse = command_line.Pulse(self._print)
        self._total = total
        self._origin: tuple[int, float] | None = None
        self._progress = None
        if self._console.is_terminal:
            self._progress = Progress(*_COLUMNS, console=self._console)
            self._task = self._progress.add_task(
                "meta-step", total=total, completed=step, text="compiling"
            )

    def __enter__(self) -> "Bar":
        """Shows the bar, on a terminal."""
        if self._progress is not None:
            self._progress.start()
        self._pulse.__enter__()
        self._pulse.begin("tracing", aloud=False)
        return self

    def __exit__(self, *_: Any) -> None:
        """Leaves the last state of the bar on the terminal."""
        self._pulse.__exit__()
        if self._progress is not None:
            self._progress.stop()

    def show(self, step: int, *, loss: float) -> None:
        """Shows that `step` meta-steps are done and the loss of the last ones."""
        text = f"loss {loss:.4f}{self._pace(step)}"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, text=text)
            self._pulse.heard()
        else:
            self.say(f"meta-step {step}/{self._total}  {text}")

    def _pace(self, step: int) -> str:
        """Returns rate and remaining time, from the second call on."""
        now = time.monotonic()
        if self._origin is None:
            self._origin = step, now
            return ""
        first, began = self._origin
        rate = max(step - first, 1e-9) / max(now - began, 1e-9)
        return f"  {rate:.1f} steps/s  {_clock((self._total - step) / rate)} left"

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._pulse.heard()
        self._print(text)

    def begin(self, what: str, *, aloud: bool = True) -> None:
        """Takes what goes on from now on; said again where nothing else is for long."""
        self._pulse.begin(what, aloud=aloud)

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)


_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[text]}"),
)


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a JSONL file, without a last one cut short by a kill."""
    return list(_whole_lines(Path(path).read_text(encoding="utf-8").splitlines()))


def last_step(path: Path) -> int:
    """Returns the last meta-step in a journal, 0 where there is none."""
    rows = read(path) if path.exists() else []
    return rows[-1]["step"] if rows else 0


def _keep_until(path: Path, step: int) -> None:
    """Drops the lines past `step` by a rename, so that no kill can lose others."""
    rows = read(path) if step and path.exists() else []
    kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= step]
    part = path.with_suffix(".part")
    with disk.writing(path):
        part.write_text("".join(kept), encoding="utf-8")
        os.replace(part, path)


def _whole_lines(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def _jsonable(row: dict[str, float]) -> dict[str, float | None]:
    return {name: x if math.isfinite(x) else None for name, x in row.items()}


def _tensorboard(path: Path, step: int) -> Any:
    from tensorboardX import SummaryWriter  # only needed when asked for

    directory = path.parent / "tensorboard" / path.stem
    return SummaryWriter(str(directory), purge_step=step + 1)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def mean(rows: list[dict[str, float]], name: str) -> float:
    """Returns the mean of a metric over rows where it is finite, or NaN."""
    values = [row[name] for row in rows if math.isfinite(row[name])]
    return float(np.mean(values)) if values else math.nan
