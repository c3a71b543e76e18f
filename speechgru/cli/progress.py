"""Progress of long work on stderr: a bar on a terminal, otherwise a line now and then."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from speechgru.cli.terminal import err, printable
from speechgru.common.progress import Progress

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

#: Seconds from one line to the next, and from the start to the first.
EVERY_S = 30.0


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """Yields the callback that moves the bar."""
    if not err.is_terminal:
        yield progress_lines(description)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with _bar(description, *columns) as progress:
        yield progress


@contextmanager
def transfer_bar(description: str) -> Iterator[Progress]:
    """The same for bytes; a total of 0 is unknown."""
    if not err.is_terminal:
        yield progress_lines(description, "bytes")
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with _bar(description, *columns) as progress:
        yield progress


def progress_lines(description: str, unit: str = "", every_s: float | None = None) -> Progress:
    """Yields a callback that prints a line at most every `every_s` (`EVERY_S`) seconds."""
    least_s = EVERY_S if every_s is None else every_s
    last = monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = monotonic()
        if now - last < least_s:
            return
        last = now
        share = f" of {total:,}" if total else ""
        percent = f" ({100 * done // total} %)" if total else ""
        err.line(f"{description}: {done:,}{share}{f' {unit}' if unit else ''}{percent}")

    return report


@contextmanager
def _bar(description: str, *columns: "ProgressColumn") -> Iterator[Progress]:
    from rich.markup import escape
    from rich.progress import Progress as Bar

    with Bar(*columns, console=err.console, transient=True) as bar:
        task = bar.add_task(escape(printable(description)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
