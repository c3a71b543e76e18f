"""What the verbs share: consoles, progress bars, JSON."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from speechgru.common.progress import Progress as ProgressCallback
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


class Terminal:
    """A rich console made at its first use: `--help` needs none, and rich takes its time."""

    def __init__(self, stderr: bool) -> None:
        self._stderr = stderr

    @cached_property
    def console(self) -> "Console":
        """The rich console itself."""
        from rich.console import Console

        return Console(stderr=self._stderr, highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Whether someone is watching, rather than a file or a pipe."""
        return self.console.is_terminal

    def print(self, *objects: Any, **options: Any) -> None:
        """Print what rich can: markup, tables."""
        self.console.print(*objects, **options)

    def line(self, text: str) -> None:
        """Print a text as it is, on one line however wide it gets."""
        self.console.print(text, markup=False, emoji=False, soft_wrap=True)


#: What the help says where a model need not be named.
BUNDLED = "[default: the one in the package]"

#: Results go to stdout, all else to stderr.
out = Terminal(stderr=False)
err = Terminal(stderr=True)


def tell_error(message: str) -> None:
    """One sentence on stderr, marked as an error."""
    from rich.text import Text

    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON value on stdout and nothing else."""
    sys.stdout.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar(description: str, enabled: bool = True) -> Iterator[ProgressCallback | None]:
    """A progress bar on stderr; gives the callback that moves it, None where not `enabled`."""
    if not enabled:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(
        *columns, console=err.console, transient=True, disable=not err.is_terminal
    ) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def pair(text: str, option: str) -> tuple[float, float]:
    """LOW:HIGH, or one number for both.

    Raises:
        UsageError: it is neither.
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise UsageError(f"{option} {text}: LOW:HIGH, two numbers, is needed") from None
