"""Tables as plain text, for files, pipes and other programs."""

from collections.abc import Iterator, Sequence

from evaluation.report.tables import Table

WIDTH = 100
GAP = "  "


def lines(table: Table) -> Iterator[str]:
    """Yields a table in aligned columns, a row for each optimizer.

    Columns that do not fit into `WIDTH` letters follow below, as far as they can.
    """
    name = ["optimizer", *(line.name for line in table.lines)]
    columns = [
        [title, *(_plain(" ".join([x.text, *x.notes])) for x in fields)]
        for title, *fields in zip(
            table.columns, *(line.fields for line in table.lines), strict=True
        )
    ]
    columns.append(["tuning", *(line.note for line in table.lines)])
    for i, block in enumerate(_blocks(name, columns)):
        if i:
            yield ""
        padded = [[x.ljust(_width(column)) for x in column] for column in block]
        yield from (GAP.join(row).rstrip() for row in zip(*padded, strict=True))


def _plain(field: str) -> str:
    return field.replace("\N{NO-BREAK SPACE}", " ")


def _blocks(
    name: Sequence[str], columns: Sequence[Sequence[str]]
) -> Iterator[list[Sequence[str]]]:
    """Yields columns that fit beside each other, after the names."""
    block = [name]
    for column in columns:
        if len(block) > 1 and sum(map(_width, block)) + _width(column) > WIDTH - len(
            GAP
        ) * len(block):
            yield block
            block = [name]
        block.append(column)
    yield block


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))
