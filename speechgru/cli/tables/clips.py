"""What `evaluate` found, as tables that fit 80 columns."""

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import out, plain, printable

if TYPE_CHECKING:
    from speechgru.evaluation.clip_report import ClipReport
    from speechgru.evaluation.clips import CarriedReport

#: More labels than this make a matrix too wide to read.
WIDEST_MATRIX = 16
TERMINAL_COLUMNS = 80
CONFUSIONS, FILES = 6, 3


def print_clips(report: "ClipReport") -> None:
    """Print confusions, every word's accuracy, clips worth a listen, and last the figures."""
    if len(report.shown) <= WIDEST_MATRIX:
        _print_matrix(report)
    _print_words(report)
    _print_confusions(report)
    out.line(f"protocol {report.protocol}, {report.split} split, N = {report.n:,} clips")
    out.styled(
        f"accuracy       {_figure(report.accuracy, report.ci95)}, "
        f"balanced {_percent(report.balanced_accuracy)} %"
    )


def print_carried(carried: "CarriedReport", report: "ClipReport") -> None:
    """Print the accuracy with the state carried over, and what that costs."""
    out.styled(
        f"state carried  {_figure(carried.accuracy, carried.ci95)}, "
        f"reset gap {carried.reset_gap(report):+.2f} points"
    )
    low, high = min(carried.accuracies), max(carried.accuracies)
    orders = len(carried.accuracies)
    mean = f"; mean of {orders} orders: {_percent(low)} to {_percent(high)}" if orders > 1 else ""
    out.line(f"  (clip after clip in random order, seed {carried.seed}{mean})")


def _figure(share: float, ci95: tuple[float, float]) -> str:
    low, high = ci95
    interval = f"(95 % interval {_percent(low)} to {_percent(high)})"
    return f"[bold]{_percent(share)} %[/] {interval}"


def _print_matrix(report: "ClipReport") -> None:
    """Print the confusions: spoken labels in rows, recognized ones in (numbered) columns."""
    shown = report.shown
    rows = headings = [printable(report.labels[i]) for i in shown]
    widest = max(map(cell_len, rows))
    if widest > (TERMINAL_COLUMNS - widest) // len(shown) - 1:
        headings = [str(number) for number in range(1, len(shown) + 1)]
        rows = [f"{number:>2} {row}" for number, row in zip(headings, rows, strict=True)]
    table = bare_table("spoken", *headings)
    for i, row in zip(shown, rows, strict=True):
        cells = [_cell(int(report.confusion[i, j]), right=i == j) for j in shown]
        table.add_row(plain(row), *cells)
    out.show(table)
    out.line()


def _print_words(report: "ClipReport") -> None:
    table = bare_table("word", "clips", "right", "accuracy %", "95 % interval", "precision %")
    for label, found in report.per_class.items():
        low, high = found["ci95"]
        precision = "-" if found["precision"] is None else _percent(found["precision"])
        counts = f"{found['n']:,}", f"{found['correct']:,}", _percent(found["accuracy"])
        interval = f"{_percent(low)} to {_percent(high)}"
        table.add_row(plain(label), *counts, interval, precision)
    out.show(table)
    out.line()


def _print_confusions(report: "ClipReport") -> None:
    if not report.confusions:
        return
    most = CONFUSIONS if len(report.shown) <= WIDEST_MATRIX else 2 * CONFUSIONS
    out.styled("[bold]most confused[/], with files to listen to and the model's score")
    for confusion in report.confusions[:most]:
        count = len(confusion.mistakes)
        out.line(f"{count:4,}  {confusion.label} taken for {confusion.recognized}")
        for example, score in confusion.mistakes[:FILES]:
            place = "" if example.start_s is None else f" from {example.start_s:.2f} s"
            file = "digital silence" if example.path is None else f"{example.path}{place}"
            out.line(f"        {score:.2f}  {file}")
    out.line()


def _cell(count: int, right: bool) -> Text:
    if not count:
        return Text("·", "dim")
    return Text(str(count), "bold green" if right else "red")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
