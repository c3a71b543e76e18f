"""A training run: a live line on a terminal, otherwise a line for each validation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from speechgru.cli.progress import progress_lines
from speechgru.cli.terminal import err
from speechgru.common.parents import is_child
from speechgru.common.progress import Progress

if TYPE_CHECKING:
    from speechgru.training.loop import Status

#: Seconds between two lines for a process that shows them to somebody.
CHILD_S = 2.0


@contextmanager
def live_run() -> Iterator[tuple[Callable[["Status"], None], Progress]]:
    """Show a run on stderr; yields the callbacks for its status and for decoding its data."""
    if not err.is_terminal:
        if is_child():
            yield _status_lines(CHILD_S), progress_lines("decoding", every_s=CHILD_S)
        else:
            yield _status_lines(), progress_lines("decoding")
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=14),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err.console) as bar:
        task = bar.add_task("train", total=None, figures="")

        def decoding(done: int, total: int) -> None:
            bar.update(
                task, description="decode", total=total, completed=done, figures=f"{done}/{total}"
            )

        def report(status: "Status") -> None:
            bar.update(
                task,
                description="train",
                total=status.steps,
                completed=status.step,
                figures=_figures(status),
            )

        yield report, decoding


def _status_lines(every_s: float = inf) -> Callable[["Status"], None]:
    """Prints a line for each validation, and at least every so many seconds."""
    shown: set[object] = set()
    last_s = monotonic()

    def report(status: "Status") -> None:
        nonlocal last_s
        is_new = status.score is not None and status.score not in shown
        if is_new or monotonic() >= last_s + every_s:
            shown.add(status.score)
            last_s = monotonic()
            left = f"  {status.seconds_left:.0f} s left" if status.step else ""
            err.line(f"step {status.step}/{status.steps}  {_figures(status)}{left}")

    return report


def _figures(status: "Status") -> str:
    parts = [f"loss {status.loss:.3f}"] if status.step else []
    if status.score is not None:
        parts.append(f"validation {100 * status.score.balanced_accuracy:.2f} %")
    if status.step:
        parts.append(f"{status.clips_per_second:.0f} clips/s")
    return "  ".join(parts)
