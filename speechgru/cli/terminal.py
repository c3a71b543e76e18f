"""What the verbs share: consoles, progress bars, JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Results go to stdout, all else to stderr.
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Library functions report work as (done, total); the command line draws it.
ProgressCallback = Callable[[int, int], None]


def print_json(value: Any) -> None:
    """One JSON value on stdout and nothing else."""
    out.file.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")
    out.file.flush()


@contextmanager
def progress_bar(description: str, enabled: bool = True) -> Iterator[ProgressCallback | None]:
    """A progress bar on stderr; gives the callback that moves it (None where `enabled` is false)."""
    if not enabled:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
