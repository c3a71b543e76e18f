"""A comparison as columns of text: for the terminal, Markdown and CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from speechgru.analysis.comparison_results import Row, SplitRow

#: What a cell has no figure for.
NONE = "–"


@dataclass(frozen=True)
class Column:
    """A heading, and what stands under it for each row."""

    heading: str
    value: Callable[[Row], str]


def tables(rows: Sequence[Row], reference: str) -> dict[str, list[Column]]:
    """The columns of each table that these rows fill: one for each split, and the costs."""
    cell = [Column("cell", lambda row: row.cell), Column("units", lambda row: str(row.hidden))]
    found = {}
    for split in rows[0].splits if rows else ():
        n = rows[0].splits[split].n
        found[split] = [
            *cell,
            Column(f"% of N={n:,}", _of_split(split, _accuracy)),
            Column(f"points from {reference}", _of_split(split, _difference)),
            Column("reset gap", _of_split(split, lambda s: _or_none(s.reset_gap, "{:.1f}"))),
            Column("seeds", lambda row: str(row.seeds)),
        ]
    found["costs"] = [
        *cell,
        Column("weights", lambda row: f"{row.costs.parameters:,}"),
        Column("M MAC/s", lambda row: f"{row.costs.multiply_adds_per_second / 1e6:.1f}"),
        Column("clips/s", lambda row: f"{row.costs.train_clips_per_second:.0f}"),
        Column("MB", lambda row: f"{row.costs.saved_mb:.0f}"),
        Column("step µs", lambda row: _or_none(row.costs.step_us, "{:.0f}")),
        Column("ONNX µs", lambda row: _or_none(row.costs.onnx_step_us, "{:.0f}")),
        Column("state kB", lambda row: f"{row.costs.state_kb:.1f}"),
    ]
    return found


def as_markdown(rows: Sequence[Row], reference: str) -> str:
    """Tables that GitHub draws."""
    texts = []
    for name, shown in tables(rows, reference).items():
        lines = [name, "", "| " + " | ".join(column.heading for column in shown) + " |"]
        lines.append("| --- " + "| ---: " * (len(shown) - 1) + "|")
        lines += ["| " + " | ".join(column.value(row) for column in shown) + " |" for row in rows]
        texts.append("\n".join(lines) + "\n")
    return "\n".join(texts)


def as_csv(rows: Sequence[Row]) -> str:
    """Every figure, unrounded, a row for each cell."""
    tables = []
    for row in rows:
        table: dict[str, object] = {"cell": row.cell, "hidden": row.hidden, "seeds": row.seeds}
        table |= row.costs.as_dict()
        for split, found in row.splits.items():
            table |= {
                f"{split}_n": found.n,
                f"{split}_accuracy": found.accuracy,
                f"{split}_ci95_low": found.ci95[0],
                f"{split}_ci95_high": found.ci95[1],
                f"{split}_accuracies": " ".join(f"{a:.6f}" for a in found.accuracies),
                f"{split}_reset_gap": found.reset_gap,
            }
            if found.difference:
                names = ("difference", "difference_low", "difference_high")
                table |= {
                    f"{split}_{name}": value
                    for name, value in zip(names, found.difference, strict=True)
                }
        tables.append(table)
    headings = list(dict.fromkeys(name for table in tables for name in table))
    text = io.StringIO()
    writer = csv.DictWriter(text, headings, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tables)
    return text.getvalue()


def _of_split(split: str, told: Callable[[SplitRow], str]) -> Callable[[Row], str]:
    return lambda row: told(row.splits[split]) if split in row.splits else NONE


def _accuracy(found: SplitRow) -> str:
    low, high = found.ci95
    return f"{100 * found.accuracy:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _difference(found: SplitRow) -> str:
    if found.difference is None:
        return NONE
    mean, low, high = found.difference
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _or_none(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)
