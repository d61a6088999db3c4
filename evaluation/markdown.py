"""A summary as Markdown, for a README."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation import tables, words

Summary = Mapping[str, Any]


def markdown(summary: Summary) -> str:
    """Returns verdict, standings, tasks and protocol, to be read as they are."""
    blocks = [
        "\n\n".join(
            f"**{_safe(one['headline'])}** {_safe(' '.join(one['rest']))}".strip()
            for one in summary["verdict"]
        ),
        _standings(summary),
        "Below a number is the 95 % bootstrap interval over seeds, tasks being fixed; "
        "the best of each row is bold, whatever its interval.",
        _tasks(summary),
        "Mean final training loss / mean test loss; the least of each row is bold.",
        "\n".join(f"- {_safe(line)}" for line in protocol(summary)),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def protocol(summary: Summary) -> Iterator[str]:
    """Yields what was run, what was spent on tuning, and what went wrong."""
    settings = summary["settings"]
    yield (
        f"Suite {settings['suite']}: {len(settings['tasks'])} tasks, seeds "
        f"{', '.join(map(str, settings['seeds']))}."
    )
    spent = [f"{name} {words.budget(name, summary)}" for name in settings["optimizers"]]
    tuning = settings["tuning"]
    yield (
        f"Tuned by {tuning['protocol']} for each "
        f"{'base task' if tuning['transfer'] else 'task'} and metric, on seeds "
        f"{', '.join(map(str, tuning['seeds']))}: {', '.join(spent)}."
    )
    targets = [x["target"] for x in summary["tasks"].values()]
    yield (
        f"AlgoPerf scores are in the pool of these optimizers, on the "
        f"{len(targets) - targets.count(None)} tasks that have a target."
    )
    for failure in words.failures(summary):
        yield f"{failure}."


def _standings(summary: Summary) -> str:
    """Returns a row for each measure: few optimizers fit where many measures do not."""
    table = tables.standings(summary)
    head = [_bold(_safe(x.name), x.candidate) + f"<br>{x.note}" for x in table.lines]
    fields = zip(*(line.fields for line in table.lines), strict=True)
    rows = [
        [column, *map(_field, row)]
        for column, row in zip(table.columns, fields, strict=True)
    ]
    return _table(["", *head], rows)


def _field(field: tables.Field) -> str:
    return "<br>".join([_bold(_safe(field.text), field.best), *map(_safe, field.notes)])


def _tasks(summary: Summary) -> str:
    names = list(summary["settings"]["optimizers"])
    rows = []
    for task, of in summary["tasks"].items():
        columns = [_means(of["rows"], metric) for metric in ("final", "test")]
        fields = [" / ".join(pair) for pair in zip(*columns, strict=True)]
        rows.append([_safe(task), *fields])
    return _table(["", *map(_safe, names)], rows)


def _means(rows: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """Returns a metric of each optimizer on a task, the least in bold."""
    values = [None if x["error"] else x["metrics"][metric]["value"] for x in rows]
    least = min((x for x in values if x is not None), default=None)
    texts = []
    for row, value in zip(rows, values, strict=True):
        if value is None:
            texts.append("failed" if row["error"] else "diverged")
        else:
            texts.append(_bold(words.number(value), value == least))
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
