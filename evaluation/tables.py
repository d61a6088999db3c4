"""The tables of a summary as text, for a terminal, Markdown and a page alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evaluation.standings import REPORTED
from evaluation.words import Summary, bounds, budget, duration, least, number, share

Row = Mapping[str, Any]


class Field(NamedTuple):
    """One number of a table.

    Attributes:
      text: the number, or what is there instead.
      notes: its interval, and what else belongs under it.
      best: whether no other optimizer does better in this column.
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


class Column(NamedTuple):
    """A measure of an optimizer.

    Attributes:
      title: with the unit.
      sign: 1 where more is better, -1 where less is, 0 where nothing is marked.
      key: row -> the number that is compared; None without one.
      field: row -> what is shown.
    """

    title: str
    sign: int
    key: Callable[[Row], float | None]
    field: Callable[[Row], Field]


def standings(summary: Summary) -> Table:
    """Returns how optimizers do over all tasks."""
    columns = [
        _interval_column("speed-up in steps", "speedup", 1),
        _interval_column("final loss ratio", "loss_ratio", -1),
        _interval_column("test loss ratio", "test_ratio", -1),
        _interval_column("P(lower final loss)", "improvement", 1),
        _interval_column("P(lower test loss)", "test_improvement", 1),
        _algoperf_column("tuned"),
        _algoperf_column("untuned"),
        Column("diverged or failed", 0, lambda x: x["diverged"], _lost),
        Column("time of a step", 0, lambda x: x["optimizer_seconds"], _time),
        Column("state, bytes per parameter", 0, lambda x: x["state_bytes"], _state),
        Column("peak memory", 0, lambda x: x["peak_ratio"], _peak),
    ]
    if all(one["speedup"] is None for one in summary["standings"].values()):
        columns = columns[5:]  # there is no reference, or it failed everywhere
    return _table(summary, summary["standings"], columns)


def task(summary: Summary, name: str) -> Table:
    """Returns what optimizers do on one task."""
    rows = {row["optimizer"]: row for row in summary["tasks"][name]["rows"]}
    metrics = [m for m in REPORTED if "accuracy" not in m or _any(rows.values(), m)]
    columns = [_metric_column(metric) for metric in metrics]
    if any(row.get("speedup") for row in rows.values()):
        columns.append(
            Column(
                "speed-up in steps",
                1,
                lambda x: x["speedup"] and x["speedup"]["value"],
                _task_speedup,
            )
        )
    columns.append(Column("diverged", 0, lambda x: None, _seeds))
    return _table(summary, rows, columns)


def _table(
    summary: Summary, rows: Mapping[str, Row], columns: Sequence[Column]
) -> Table:
    optimizers = summary["settings"]["optimizers"]
    ran = [row for row in rows.values() if not row.get("error")]
    lines = []
    for name, row in rows.items():
        error = row.get("error")
        fields = [] if error else [_marked(column, row, ran) for column in columns]
        candidate = not optimizers[name]["baseline"]
        lines.append(Line(name, budget(name, summary), candidate, fields, error))
    lines.sort(key=lambda line: not line.candidate)
    return Table([column.title for column in columns], lines)


def _marked(column: Column, row: Row, rows: Sequence[Row]) -> Field:
    field, own = column.field(row), column.key(row)
    values = [column.sign * x for x in map(column.key, rows) if x is not None]
    best = column.sign != 0 and own is not None and column.sign * own == max(values)
    return field._replace(best=best)


def _interval_column(title: str, key: str, sign: int) -> Column:
    def field(row: Row) -> Field:
        one, notes = row[key], ()
        if key == "speedup":
            seconds = number(row["speedup_seconds"]["value"])
            notes = tuple(
                note.replace(" ", "\N{NO-BREAK SPACE}")
                for note in (
                    f"{share(row['censored'])} censored",
                    f"{seconds} by seconds",
                )
            )
        prefix = "≥ " if key == "speedup" and least(row) else ""
        return Field(prefix + number(one["value"]), (bounds(one), *notes))

    return Column(title, sign, lambda row: row[key]["value"], field)


def _algoperf_column(rule: str) -> Column:
    def points(row: Row) -> Mapping[str, float | None]:
        return row["algoperf"].get(rule) or {"steps": None, "seconds": None}

    def field(row: Row) -> Field:
        steps, seconds = (points(row)[unit] for unit in ("steps", "seconds"))
        if steps is None:
            return Field("–")
        return Field(f"{steps:.2f}", (f"{seconds:.2f} by seconds",))

    return Column(f"AlgoPerf score, {rule}", 1, lambda row: points(row)["steps"], field)


def _lost(row: Row) -> Field:
    failed = row["failed"]
    notes = [f"failed: {', '.join(failed[:2])}"] if failed else []
    if len(failed) > 2:
        notes.append(f"and {len(failed) - 2} more")
    return Field(share(row["diverged"]), tuple(notes))


def _time(row: Row) -> Field:
    if row["optimizer_seconds"] is None:
        return Field("–")
    update = f"update {duration(row['optimizer_seconds'])}"
    if row["step_ratio"] is None:
        return Field(update)
    return Field(f"{number(row['step_ratio'])}×", (update,))


def _state(row: Row) -> Field:
    size = row["state_bytes"]
    return Field("–" if size is None else f"{size:.1f}")


def _peak(row: Row) -> Field:
    ratio = row["peak_ratio"]
    return Field("–" if ratio is None else f"{number(ratio)}×")


def _metric_column(metric: str) -> Column:
    accuracy = "accuracy" in metric

    def write(value: float) -> str:
        return f"{100 * value:.1f}" if accuracy else number(value)

    def field(row: Row) -> Field:
        one = row["metrics"][metric]
        if one["value"] is None:
            lost, runs = one["values"].count(None), len(one["values"])
            return Field(f"{lost} of {runs} diverged")
        interval = f"[{write(one['low'])}, {write(one['high'])}]"
        return Field(write(one["value"]), (interval,))

    return Column(
        REPORTED[metric].title + (", %" if accuracy else ""),
        1 if accuracy else -1,
        lambda row: row["metrics"][metric]["value"],
        field,
    )


def _task_speedup(row: Row) -> Field:
    one = row["speedup"]
    notes = [bounds(one)]
    if one["censored"]:
        notes.append(f"{one['censored']} seeds censored")
    prefix = "≥ " if one["censored"] else ""
    return Field(prefix + number(one["value"]), tuple(notes))


def _seeds(row: Row) -> Field:
    return Field(", ".join(f"seed {x}" for x in row["diverged"]) or "none")


def _any(rows: Iterable[Row], metric: str) -> bool:
    """Returns whether any optimizer has a metric."""
    ran = [row for row in rows if not row["error"]]
    return any(row["metrics"][metric]["value"] is not None for row in ran)
