"""What `compare` found, as tables that fit 80 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import out, plain

if TYPE_CHECKING:
    from speechgru.analysis.comparison_report import Row


def print_comparison(rows: "Sequence[Row]", reference: str, title: str) -> None:
    """Print a table for each split, and one of the costs."""
    from speechgru.analysis.comparison_report import tables

    out.line(title)
    for name, columns in tables(rows, reference).items():
        table = bare_table(*(column.heading for column in columns))
        for row in rows:
            table.add_row(*(plain(column.value(row)) for column in columns))
        out.line()
        out.line(name)
        out.show(table)
