"""What `evaluate` found, as tables that fit 80 columns."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from speechgru.cli.terminal import out

if TYPE_CHECKING:
    from speechgru.evaluation.carried import CarriedReport
    from speechgru.evaluation.clip_report import ClipReport

#: More labels than this make a matrix too wide to read.
WIDEST_MATRIX = 16
TERMINAL_COLUMNS = 80
CONFUSIONS, FILES = 6, 3


def print_clips(report: "ClipReport") -> None:
    """The confusions, every word's accuracy, what to listen to, and the figures last."""
    if len(report.shown) <= WIDEST_MATRIX:
        _print_matrix(report)
    _print_words(report)
    _print_confusions(report)
    out.print(f"protocol {report.protocol}, {report.split} split, N = {report.n:,} clips")
    out.print(
        f"accuracy       {_figure(report.accuracy, report.ci95)}, "
        f"mean over labels {_percent(report.balanced_accuracy)} %"
    )


def print_carried(carried: "CarriedReport", report: "ClipReport") -> None:
    """The accuracy with the state carried, and what is lost by it."""
    out.print(
        f"state carried  {_figure(carried.accuracy, carried.ci95)}, "
        f"reset gap {carried.reset_gap(report):+.2f} points"
    )
    low, high = min(carried.accuracies), max(carried.accuracies)
    orders = len(carried.accuracies)
    mean = f"; mean of {orders} orders: {_percent(low)} to {_percent(high)}" if orders > 1 else ""
    out.print(f"  (clip after clip in random order, seed {carried.seed}{mean})")


def _figure(share: float, ci95: tuple[float, float]) -> str:
    low, high = ci95
    interval = f"(95 % interval {_percent(low)} to {_percent(high)})"
    return f"[bold]{_percent(share)} %[/] {interval}"


def _print_matrix(report: "ClipReport") -> None:
    """Rows: what was said; columns: what was recognized, their headings cut to the cell."""
    shown = report.shown
    rows = [_short(report.labels[i]) for i in shown]
    widest = (TERMINAL_COLUMNS - max(map(len, rows))) // len(shown) - 1
    width = max(len(str(report.confusion.max())), min(widest, 4))
    table = _table("said", *(report.labels[i][:width].rjust(width) for i in shown))
    for i, row in zip(shown, rows, strict=True):
        cells = [_cell(int(report.confusion[i, j]), right=i == j) for j in shown]
        table.add_row(Text(row), *cells)
    out.print(table)
    out.print()


def _print_words(report: "ClipReport") -> None:
    table = _table("word", "clips", "right", "accuracy %", "95 % interval", "precision %")
    for label, found in report.per_class.items():
        low, high = found["ci95"]
        precision = "-" if found["precision"] is None else _percent(found["precision"])
        counts = f"{found['n']:,}", f"{found['correct']:,}", _percent(found["accuracy"])
        interval = f"{_percent(low)} to {_percent(high)}"
        table.add_row(Text(_short(label, 24)), *counts, interval, precision)
    out.print(table)
    out.print()


def _print_confusions(report: "ClipReport") -> None:
    if not report.confusions:
        return
    most = CONFUSIONS if len(report.shown) <= WIDEST_MATRIX else 2 * CONFUSIONS
    out.print("[bold]most confused[/], with the files to listen to and how sure the model was")
    for confusion in report.confusions[:most]:
        told = f"{len(confusion.mistakes):4,}  {confusion.label} taken for {confusion.recognized}"
        out.print(Text(told), soft_wrap=True)
        for example, score in confusion.mistakes[:FILES]:
            place = "" if example.start_s is None else f" from {example.start_s:.2f} s"
            file = "digital silence" if example.path is None else f"{example.path}{place}"
            out.print(Text(f"        {score:.2f}  {file}"), soft_wrap=True)
    out.print()


def _table(first: str, *others: str) -> Table:
    """A table without lines: the first column to the left, the others to the right."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(first)
    for heading in others:
        table.add_column(Text(heading), justify="right")
    return table


def _cell(count: int, right: bool) -> Text:
    if not count:
        return Text("·", "dim")
    return Text(str(count), "bold green" if right else "red")


def _short(label: str, most: int = 12) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
