"""A training run: a live line on a terminal, otherwise a line for each validation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from speechgru.cli.progress import progress_lines
from speechgru.cli.terminal import err
from speechgru.common.progress import Progress

if TYPE_CHECKING:
    from speechgru.training.loop import Status


@contextmanager
def live_run() -> Iterator[tuple[Callable[["Status"], None], Progress]]:
    """Show a run on stderr; yields the callbacks for its status and for decoding its data."""
    if not err.is_terminal:
        yield _validation_lines(), progress_lines("decoding")
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


def _validation_lines() -> Callable[["Status"], None]:
    shown: set[object] = set()

    def report(status: "Status") -> None:
        if status.score is not None and status.score not in shown:
            shown.add(status.score)
            err.line(
                f"step {status.step}/{status.steps}  {_figures(status)}  "
                f"{status.seconds_left:.0f} s left"
            )

    return report


def _figures(status: "Status") -> str:
    parts = [f"loss {status.loss:.3f}"]
    if status.score is not None:
        parts.append(f"validation {100 * status.score.balanced_accuracy:.2f} %")
    parts.append(f"{status.clips_per_second:.0f} clips/s")
    return "  ".join(parts)
