"""Plain tables: no lines, the first column aligned left, the others right."""

from typing import TYPE_CHECKING

from speechgru.cli.terminal import plain

if TYPE_CHECKING:
    from rich.table import Table


def bare_table(first: str, *others: str, gap: int = 1) -> "Table":
    """A table with these headings, of one line or more, its columns `gap` spaces apart."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    # A label that is too long continues on the next line, so that none is cut.
    table.add_column(plain(first), overflow="fold")
    for heading in others:
        lines = Text("\n").join(plain(line) for line in heading.split("\n"))
        table.add_column(lines, justify="right", no_wrap=True)
    return table
