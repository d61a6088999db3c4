"""The tables of a summary as text, for a terminal, Markdown and a page alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evaluation.report.content import Summary
from evaluation.report.wording import (
    batch,
    bounds,
    budget,
    duration,
    leader,
    least,
    number,
    share,
)
from evaluation.runs.entrants import CONSTANT
from evaluation.scores.standings import REPORTED
from evaluation.statistics import Interval

Measured = Any  # a `Row` of a task, or a `Standing` over all tasks
NONE = "–"  # what failed or diverged in every run has no number


class Field(NamedTuple):
    """One number of a table.

    Attributes:
      text: the number, or what is there instead.
      notes: its interval, and what else belongs under it.
      best: whether it is better than all others of its column, by `wording.leader`.
    """

    text: str
    notes: tuple[str, ...] = ()
    best: bool = False


class Line(NamedTuple):
    """An optimizer: a field for each column, or why there is none."""

    name: str
    note: str
    candidate: bool
    fields: list[Field]
    error: str | None = None


class Table(NamedTuple):
    """Optimizers by measures, candidates first."""

    columns: list[str]
    lines: list[Line]


class Size(NamedTuple):
    """How large a task is, and a step on it; a field for each of `SIZES`."""

    task: str
    fields: list[str]


SIZES = (
    "parameters",
    "training batch",
    "examples or tokens per parameter",
    "operations of a gradient per parameter",
)


class Column(NamedTuple):
    """A measure of an optimizer.

    Attributes:
      title: with the unit.
      sign: 1 where more is better, -1 where less is, 0 where nothing is marked.
      interval: row -> what is compared, with bounds; None without a number.
      field: row -> what is shown.
    """

    title: str
    sign: int
    interval: Callable[[Measured], Interval | None]
    field: Callable[[Measured], Field]


def standings(summary: Summary) -> Table:
    """Returns the five numbers that decide, over all tasks.

    Less work for an equal loss, in steps and by the clock; how low it ends, on training
    data and on data not trained on; and how often there is nothing to speak of. All
    else is in `others`.
    """
    lost = Column("diverged or failed", 0, lambda x: None, _lost)
    columns = [*(_against(summary) or _algoperf()), lost]
    return _table(summary, summary.standings, columns)


def others(summary: Summary) -> Table:
    """Returns what else there is over all tasks: chances, AlgoPerf's scores, costs."""
    chances = [
        _interval_column("P(lower final loss)", "improvement", 1),
        _interval_column("P(lower test loss)", "test_improvement", 1),
        *_algoperf(),
    ]
    if any(standing.speedup_constant for standing in summary.standings.values()):
        title = f"speed-up over {CONSTANT}"
        chances.insert(0, _speedup_column(title, "speedup_constant"))
    costs = [
        Column("time of a step", 0, lambda x: None, _time),
        Column("state, bytes per parameter", 0, lambda x: None, _state),
        Column("peak memory", 0, lambda x: None, _peak),
    ]
    columns = [*(chances if _against(summary) else []), *costs]
    return _table(summary, summary.standings, columns)


def _against(summary: Summary) -> list[Column]:
    """Returns what is said in the reference's terms, if anything is."""
    if all(standing.speedup is None for standing in summary.standings.values()):
        return []
    return [
        _speedup_column("speed-up in steps", "speedup"),
        _speedup_column("speed-up in seconds", "speedup_seconds"),
        _interval_column("final loss ratio", "loss_ratio", -1),
        _interval_column("test loss ratio", "test_ratio", -1),
    ]


def _algoperf() -> list[Column]:
    return [_algoperf_column(rule) for rule in ("tuned", "untuned")]


def task(summary: Summary, name: str) -> Table:
    """Returns what optimizers do on one task."""
    rows = {row.optimizer: row for row in summary.tasks[name].rows}
    metrics = [m for m in REPORTED if "accuracy" not in m or _any(rows.values(), m)]
    columns = [_metric_column(metric) for metric in metrics]
    if any(row.speedup for row in rows.values()):
        columns.append(
            Column("speed-up in steps", 1, lambda x: x.speedup, _task_speedup)
        )
    columns.append(Column("diverged", 0, lambda x: None, _seeds))
    return _table(summary, rows, columns)


def sizes(summary: Summary) -> list[Size]:
    """Returns how large each task is; older evaluations do not say all of it."""
    return [Size(x, _size(y)) for x, y in summary.settings["tasks"].items()]


def _size(setting: Mapping[str, Any]) -> list[str]:
    params = setting["params"]
    if "batch" not in setting:
        return [f"{params:,}", NONE, NONE, NONE]
    examples, tokens = (setting["batch"][x] for x in ("examples", "tokens"))
    return [
        f"{params:,}",
        batch(examples, tokens),
        number((tokens or examples) / params) if examples else NONE,
        f"{setting['flops'] / params:,.0f}",
    ]


def _table(
    summary: Summary, rows: Mapping[str, Measured], columns: Sequence[Column]
) -> Table:
    optimizers = summary.settings["optimizers"]
    ran = {name: row for name, row in rows.items() if not getattr(row, "error", None)}
    best = [_best(column, ran) for column in columns]
    lines = []
    for name, row in rows.items():
        error = getattr(row, "error", None)
        fields = [
            column.field(row)._replace(best=name == first)
            for column, first in zip(columns, best, strict=True)
            if not error
        ]
        candidate = not optimizers[name]["baseline"]
        lines.append(Line(name, budget(name, summary), candidate, fields, error))
    lines.sort(key=lambda line: not line.candidate)
    return Table([column.title for column in columns], lines)


def _best(column: Column, rows: Mapping[str, Measured]) -> str | None:
    if not column.sign:
        return None
    found = {name: column.interval(row) for name, row in rows.items()}
    return leader(found, column.sign)


def _interval_column(title: str, key: str, sign: int) -> Column:
    def field(row: Measured) -> Field:
        interval = getattr(row, key)
        return (
            Field(number(interval.value), (bounds(interval),))
            if interval
            else Field(NONE)
        )

    return Column(title, sign, lambda row: getattr(row, key), field)


def _speedup_column(title: str, key: str) -> Column:
    def field(row: Measured) -> Field:
        interval = getattr(row, key)
        if interval is None:
            return Field(NONE)
        prefix = "≥ " if least(row, key) else ""
        censored = f"{share(row.censored)} censored"
        notes = (censored.replace(" ", "\N{NO-BREAK SPACE}"),) * (key == "speedup")
        return Field(prefix + number(interval.value), (bounds(interval), *notes))

    return Column(title, 1, lambda row: getattr(row, key), field)


def _algoperf_column(rule: str) -> Column:
    def points(row: Measured) -> Mapping[str, float | None]:
        none = row.diverged == 1 or rule not in row.algoperf
        return dict.fromkeys(("steps", "seconds")) if none else row.algoperf[rule]

    def field(row: Measured) -> Field:
        steps, seconds = (points(row)[unit] for unit in ("steps", "seconds"))
        if steps is None:
            return Field(NONE)
        return Field(f"{steps:.2f}", (f"{seconds:.2f} by seconds",))

    def interval(row: Measured) -> Interval | None:
        steps = points(row)["steps"]
        return None if steps is None else Interval(steps, steps, steps)

    return Column(f"AlgoPerf score, {rule}", 1, interval, field)


def _lost(row: Measured) -> Field:
    failed = row.failed
    notes = [f"failed: {', '.join(failed[:2])}"] if failed else []
    if len(failed) > 2:
        notes.append(f"and {len(failed) - 2} more")
    return Field(share(row.diverged), tuple(notes))


def _time(row: Measured) -> Field:
    if row.optimizer_seconds is None:
        return Field(NONE)
    update = f"update {duration(row.optimizer_seconds)}"
    if row.step_ratio is None:
        return Field(update)
    return Field(f"{number(row.step_ratio)}×", (update,))


def _state(row: Measured) -> Field:
    size = row.state_bytes
    return Field(NONE if size is None else f"{size:.1f}")


def _peak(row: Measured) -> Field:
    ratio = row.peak_ratio
    return Field(NONE if ratio is None else f"{number(ratio)}×")


def _metric_column(metric: str) -> Column:
    accuracy = "accuracy" in metric

    def write(value: float) -> str:
        return f"{100 * value:.1f}" if accuracy else number(value)

    def field(row: Measured) -> Field:
        values = row.metrics[metric]
        if values.value is None:
            lost, runs = values.values.count(None), len(values.values)
            return Field(f"{lost} of {runs} diverged")
        interval = f"[{write(values.low)}, {write(values.high)}]"
        return Field(write(values.value), (interval,))

    return Column(
        REPORTED[metric].title + (", %" if accuracy else ""),
        1 if accuracy else -1,
        lambda row: row.metrics[metric],
        field,
    )


def _task_speedup(row: Measured) -> Field:
    speedup = row.speedup
    if speedup is None:
        return Field(NONE)
    notes = [bounds(speedup)]
    if speedup.censored:
        notes.append(f"{speedup.censored} seeds censored")
    prefix = "≥ " if speedup.censored else ""
    return Field(prefix + number(speedup.value), tuple(notes))


def _seeds(row: Measured) -> Field:
    return Field(", ".join(f"seed {x}" for x in row.diverged) or "none")


def _any(rows: Iterable[Measured], metric: str) -> bool:
    """Returns whether any optimizer has a metric."""
    ran = [row for row in rows if not row.error]
    return any(row.metrics[metric].value is not None for row in ran)
