"""What results say of themselves at a prompt and in a notebook."""

from markupsafe import Markup

from evaluation.report import summary, tables, wording
from evaluation.runs.results import Results

REST = "report.write(results, directory) writes all tables, curves and a page."
STYLE = "text-align: left; vertical-align: top; padding: 0.2em 1em 0.2em 0"


def text(results: Results) -> str:
    """Returns what was judged, the verdict, and where the rest is."""
    numbers = summary.summary(results)
    who = ", ".join(numbers.settings["optimizers"])
    headlines = [verdict.headline for verdict in numbers.verdict]
    return "\n".join([f"{wording.scope(numbers)}; {who}.", *headlines, REST])


def html(results: Results) -> str:
    """Returns the standings with the verdict, as HTML that needs nothing else."""
    numbers = summary.summary(results)
    table = tables.standings(numbers)
    head = _row("th", ["optimizer", *table.columns])
    rows = [_row("td", [x.name, *map(_field, x.fields)]) for x in table.lines]
    headlines = [Markup("<p><b>{}</b></p>").format(x.headline) for x in numbers.verdict]
    return str(
        Markup("<div>{}<table><caption>{}</caption>{}</table><p>{}</p></div>").format(
            Markup().join(headlines),
            wording.scope(numbers),
            Markup().join([head, *rows]),
            REST,
        )
    )


def _row(tag: str, texts: list[str]) -> Markup:
    cell = Markup('<{0} style="{1}">{2}</{0}>')
    return Markup("<tr>{}</tr>").format(
        Markup().join(cell.format(Markup(tag), STYLE, x) for x in texts)
    )


def _field(field: tables.Field) -> Markup:
    shown = Markup("<b>{}</b>" if field.best else "{}").format(field.text)
    notes = [Markup("<br><small>{}</small>").format(x) for x in field.notes]
    return Markup().join([shown, *notes])
