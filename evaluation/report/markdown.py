"""A summary as Markdown, for a README."""

from collections.abc import Iterator, Sequence

from evaluation.report import tables, wording
from evaluation.report.content import Row, Summary


def markdown(summary: Summary) -> str:
    """Returns title, verdict, standings, tasks and protocol, to be read as they are."""
    blocks = [
        f"## {_safe(summary.title)}",
        f"{_safe(wording.scope(summary))}.",
        "\n\n".join(
            f"**{_safe(verdict.headline)}** {_safe(' '.join(verdict.rest))}".strip()
            for verdict in summary.verdict
        ),
        _measures(tables.standings(summary)),
        "Below a number is the 95 % bootstrap interval over seeds, tasks being fixed. "
        "Bold: the interval lies wholly beyond all others of the row.",
        _folded("More measures", _measures(tables.others(summary))),
        _tasks(summary),
        "Mean final training loss / mean test loss; bold as above.",
        _folded("How large tasks are", f"{_sizes(summary)}\n\n{wording.PROPORTION}"),
        "\n".join(f"- {_safe(line)}" for line in protocol(summary)),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def protocol(summary: Summary) -> Iterator[str]:
    """Yields what was run, what was spent on tuning, and what went wrong."""
    settings = summary.settings
    yield (
        f"Suite {settings['suite']}: {wording.count(settings['tasks'], 'task')}, seeds "
        f"{', '.join(map(str, settings['seeds']))}."
    )
    spent = [
        f"{name} {wording.budget(name, summary)}" for name in settings["optimizers"]
    ]
    tuning = settings["tuning"]
    yield (
        f"Tuned by {tuning['protocol']} for each "
        f"{'base task' if tuning['transfer'] else 'task'} and metric, on seeds "
        f"{', '.join(map(str, tuning['seeds']))}: {', '.join(spent)}."
    )
    brought = {name: wording.doubled(x) for name, x in summary.budget.items()}
    if told := [f"{name} {text}" for name, text in brought.items() if text]:
        yield (
            "The last doubling of the trials took off the final training loss, on the "
            f"tuning seeds: {', '.join(told)}."
        )
    targets = [x.target for x in summary.tasks.values()]
    yield (
        f"AlgoPerf scores are in the pool of these optimizers; a target have "
        f"{len(targets) - targets.count(None)} of {wording.count(targets, 'task')}."
    )
    for failure in wording.failures(summary):
        yield f"{failure}."
    yield from wording.made(summary)


def _measures(table: tables.Table) -> str:
    """Returns a row for each measure: few optimizers fit where many measures do not."""
    head = [_bold(_safe(x.name), x.candidate) + f"<br>{x.note}" for x in table.lines]
    fields = zip(*(line.fields for line in table.lines), strict=True)
    rows = [
        [column, *map(_field, row)]
        for column, row in zip(table.columns, fields, strict=True)
    ]
    return _table(["", *head], rows)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _field(field: tables.Field) -> str:
    return "<br>".join([_bold(_safe(field.text), field.best), *map(_safe, field.notes)])


def _tasks(summary: Summary) -> str:
    names = list(summary.settings["optimizers"])
    rows = []
    for task, entry in summary.tasks.items():
        columns = [_means(entry.rows, metric) for metric in ("final", "test")]
        fields = [" / ".join(pair) for pair in zip(*columns, strict=True)]
        rows.append([_safe(task), *fields])
    return _table(["", *map(_safe, names)], rows)


def _sizes(summary: Summary) -> str:
    rows = [[_safe(x.task), *x.fields] for x in tables.sizes(summary)]
    return _table(["", *tables.SIZES], rows)


def _means(rows: Sequence[Row], metric: str) -> list[str]:
    """Returns a metric of each optimizer on a task, the best in bold."""
    ran = {x.optimizer: x.metrics[metric] for x in rows if not x.error}
    best, texts = wording.leader(ran, -1), []
    for row in rows:
        name = row.optimizer
        if name not in ran:
            texts.append("failed")
        elif ran[name].value is None:
            texts.append("diverged")
        else:
            texts.append(_bold(wording.number(ran[name].value), name == best))
    return texts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _safe(text: str) -> str:
    """Returns text that Markdown shows as it is.

    >>> _safe("a|b <c> *d*")
    'a\\\\|b &lt;c&gt; \\\\*d\\\\*'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{x}" if x in "\\|*_`[]" else x for x in text)
