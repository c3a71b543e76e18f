"""What `crossvalidate` found, as tables that fit 80 columns."""

from typing import TYPE_CHECKING, Any

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import out, plain

if TYPE_CHECKING:
    from speechgru.evaluation.fold_report import FoldsReport

#: Rows of a table: words or speakers, the worst first; confusions, with files of each.
ROWS, CONFUSIONS, FILES = 12, 6, 3


def print_folds(report: "FoldsReport") -> None:
    """Words, speakers, confusions, the figures, and what to record next."""
    _print_rows("word", report.accuracy_by("label"))
    if report.by == "speaker":
        _print_rows("speaker", report.accuracy_by("speaker"))
    for confusion in report.confusions[:CONFUSIONS]:
        files = ", ".join(confusion["files"][:FILES])
        out.line(
            f"{confusion['label']} taken for {confusion['recognized']}: {confusion['count']} "
            f"({files})"
        )
    if report.confusions:
        out.line()
    clips, missed, alarms = report.accuracy, report.missed, report.false_alarms
    out.line(f"{len(report.results)} folds by {report.by}, N = {clips['n']:,} clips")
    out.styled(f"accuracy       {_percent(clips['accuracy'], clips['ci95'])}")
    if missed:
        out.styled(
            f"missed         {_percent(missed['rate'], missed['ci95'])} of "
            f"{missed['n']:,} words in streams with noise"
        )
    if alarms:
        low, high = alarms["ci95"]
        out.styled(
            f"false alarms   [bold]{alarms['per_hour']:.2f} per hour[/] (95 % interval {low:.2f} "
            f"to {high:.2f}; {alarms['events']:,} in {alarms['hours']:.2f} h of other speech)"
        )
    if errors := report.word_error_rate:
        rates = ", ".join(f"{100 * rate:.1f}" for rate in errors["by_fold"])
        out.styled(f"word errors    {_percent(errors['mean'], errors['ci95'])}; by fold: {rates}")
    out.line()
    out.line(report.advice)


def _print_rows(what: str, rows: dict[str, dict[str, Any]]) -> None:
    table = bare_table(what, "clips", "right", "accuracy %", "95 % interval", gap=2)
    for name, row in list(rows.items())[:ROWS]:
        low, high = row["ci95"]
        table.add_row(
            plain(name or "(unknown)"),
            f"{row['n']:,}",
            f"{row['correct']:,}",
            f"{100 * row['accuracy']:.2f}",
            f"{100 * low:.2f} to {100 * high:.2f}",
        )
    out.show(table)
    if len(rows) > ROWS:
        out.line(f"... and {len(rows) - ROWS} more, at least as good")
    out.line()


def _percent(share: float, ci95: list[float] | None) -> str:
    figure = f"[bold]{100 * share:.2f} %[/]"
    if ci95 is None:
        return figure
    return f"{figure} (95 % interval {100 * ci95[0]:.2f} to {100 * ci95[1]:.2f})"
