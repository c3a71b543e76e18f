"""Results of a comparison of cells: a file for each run, then rows, tables and a picture."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.analysis.cell_costs import Costs
from speechgru.common.files import atomic_path, write_atomic
from speechgru.errors import DataError
from speechgru.evaluation.metrics import spread_of_mean, wilson_interval

SPLITS = ("validation", "testing")
#: Shown where a cell has no figure.
NO_FIGURE = "–"
#: Times vary from run to run; a cell's row has their median.
_TIMES = ("train_clips_per_second", "step_us", "onnx_step_us")


@dataclass(frozen=True)
class SplitResult:
    """A run's result on one split.

    Args:
        hits: for each clip "1" or "0", whether it was right from a fresh state.
        carried: how many were right with the state carried (a mean over orders); None for a model
            that needs whole clips.
    """

    hits: str
    carried: float | None

    @property
    def n(self) -> int:
        """Number of clips."""
        return len(self.hits)

    @property
    def accuracy(self) -> float:
        """Share of the clips that are right."""
        return self.hits.count("1") / self.n

    def is_right(self) -> NDArray[np.float64]:
        """1 or 0 for each clip, (N,)."""
        return np.array([float(hit) for hit in self.hits])


@dataclass(frozen=True)
class RunResult:
    """A trained network: its cell, width, seed, costs, training time, and result on each split."""

    cell: str
    hidden: int
    seed: int
    protocol: str
    steps: int
    seconds: float
    costs: Costs
    splits: dict[str, SplitResult]

    def save(self, path: Path) -> None:
        """Write the result as JSON, atomically."""
        write_atomic(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "RunResult":
        """Read a result.

        Raises:
            DataError: the file is damaged, or is not a result.
        """
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            costs = Costs(**table.pop("costs"))
            splits = {name: SplitResult(**split) for name, split in table.pop("splits").items()}
            return cls(**table, costs=costs, splits=splits)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path}: not a result of a comparison: {error}") from error


@dataclass(frozen=True)
class SplitRow:
    """A cell on a split: means over its seeds.

    Args:
        ci95: Wilson's interval of the mean accuracy; more seeds do not narrow it, as the clips
            stay the same.
        reset_gap: points lost when the state is carried; None for a model that needs whole clips.
        difference: points of difference from the reference cell and its interval, paired by clip;
            None for that cell itself, and of a single clip.
    """

    n: int
    accuracy: float
    ci95: tuple[float, float]
    accuracies: tuple[float, ...]
    reset_gap: float | None
    difference: tuple[float, float, float] | None


@dataclass(frozen=True)
class Row:
    """A cell in the table; `splits` is empty if it was not trained."""

    cell: str
    hidden: int
    costs: Costs
    seeds: int
    splits: dict[str, SplitRow]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_rows(results: Sequence[RunResult], reference: str) -> list[Row]:
    """One row per cell, in the order of the results; differences are from `reference`."""
    by_cell: dict[str, list[RunResult]] = {}
    for result in results:
        by_cell.setdefault(result.cell, []).append(result)
    references = {run.seed: run for run in by_cell.get(reference, [])}
    return [
        Row(
            cell,
            runs[0].hidden,
            _median_costs(runs),
            len(runs),
            {
                split: _split_row(runs, split, {} if cell == reference else references)
                for split in runs[0].splits
            },
        )
        for cell, runs in by_cell.items()
    ]


def _split_row(runs: Sequence[RunResult], split: str, references: dict[int, RunResult]) -> SplitRow:
    results = [run.splits[split] for run in runs]
    n = results[0].n
    accuracies = tuple(result.accuracy for result in results)
    gaps = [100 * (r.accuracy - r.carried / n) for r in results if r.carried is not None]
    mean = float(np.mean(accuracies))
    differences = [
        run.splits[split].is_right() - references[run.seed].splits[split].is_right()
        for run in runs
        if run.seed in references and n > 1  # a single clip has no interval
    ]
    return SplitRow(
        n=n,
        accuracy=mean,
        ci95=wilson_interval(mean * n, n),
        accuracies=accuracies,
        reset_gap=float(np.mean(gaps)) if gaps else None,
        difference=paired_difference(np.mean(differences, axis=0)) if differences else None,
    )


def paired_difference(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of the clips' differences (N,) in points, and its 95 % interval.

    >>> [round(value, 2) for value in paired_difference(np.array([1.0, 0, 0, -1, 0, 0, 0, 1]))]
    [12.5, -31.91, 56.91]
    """
    mean = float(differences.mean())
    half = spread_of_mean(differences)
    return 100 * mean, 100 * (mean - half), 100 * (mean + half)


def _median_costs(runs: Sequence[RunResult]) -> Costs:
    """Times are medians over the seeds; all else is the same for every seed."""
    costs = [run.costs for run in runs]
    values = costs[0].as_dict()
    for name in _TIMES:
        if values[name] is not None:
            values[name] = float(np.median([getattr(one, name) for one in costs]))
    return Costs(**values)


@dataclass(frozen=True)
class Column:
    """A heading, and the text below it for each row."""

    heading: str
    value: Callable[[Row], str]


def tables(rows: Sequence[Row], reference: str) -> dict[str, list[Column]]:
    """The columns of each table: one table for each split, and one for the costs."""
    cell = [Column("cell", lambda row: row.cell), Column("units", lambda row: str(row.hidden))]
    found = {}
    for split in rows[0].splits if rows else ():
        n = rows[0].splits[split].n
        found[split] = [
            *cell,
            Column(f"% of N={n:,}", _of_split(split, _accuracy)),
            Column(f"points from {reference}", _of_split(split, _difference)),
            Column("reset gap", _of_split(split, lambda s: _format(s.reset_gap, "{:.1f}"))),
            Column("seeds", lambda row: str(row.seeds)),
        ]
    found["costs"] = [
        *cell,
        Column("weights", lambda row: f"{row.costs.parameters:,}"),
        Column("M MAC/s", lambda row: f"{row.costs.multiply_adds_per_second / 1e6:.1f}"),
        Column("clips/s", lambda row: f"{row.costs.train_clips_per_second:.0f}"),
        Column("MB", lambda row: f"{row.costs.saved_mb:.0f}"),
        Column("step µs", lambda row: _format(row.costs.step_us, "{:.0f}")),
        Column("ONNX µs", lambda row: _format(row.costs.onnx_step_us, "{:.0f}")),
        Column("state kB", lambda row: f"{row.costs.state_kb:.1f}"),
    ]
    return found


def write_tables(rows: Sequence[Row], reference: str, folder: Path, name: str) -> tuple[Path, Path]:
    """Write the rows as Markdown and as CSV; returns both files.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    markdown, table = folder / f"{name}.md", folder / f"{name}.csv"
    write_atomic(markdown, as_markdown(rows, reference))
    write_atomic(table, as_csv(rows))
    return markdown, table


def as_markdown(rows: Sequence[Row], reference: str) -> str:
    """All tables as Markdown."""
    texts = []
    for name, columns in tables(rows, reference).items():
        lines = [name, "", "| " + " | ".join(column.heading for column in columns) + " |"]
        lines.append("| --- " + "| ---: " * (len(columns) - 1) + "|")
        lines += ["| " + " | ".join(column.value(row) for column in columns) + " |" for row in rows]
        texts.append("\n".join(lines) + "\n")
    return "\n".join(texts)


def as_csv(rows: Sequence[Row]) -> str:
    """Every figure, unrounded, one line per cell."""
    lines = []
    for row in rows:
        line: dict[str, object] = {"cell": row.cell, "hidden": row.hidden, "seeds": row.seeds}
        line |= row.costs.as_dict()
        for split, found in row.splits.items():
            line |= {
                f"{split}_n": found.n,
                f"{split}_accuracy": found.accuracy,
                f"{split}_ci95_low": found.ci95[0],
                f"{split}_ci95_high": found.ci95[1],
                f"{split}_accuracies": " ".join(f"{a:.6f}" for a in found.accuracies),
                f"{split}_reset_gap": found.reset_gap,
            }
            if found.difference:
                names = ("difference", "difference_low", "difference_high")
                line |= {
                    f"{split}_{name}": value
                    for name, value in zip(names, found.difference, strict=True)
                }
        lines.append(line)
    headings = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, headings, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _of_split(split: str, text: Callable[[SplitRow], str]) -> Callable[[Row], str]:
    return lambda row: text(row.splits[split]) if split in row.splits else NO_FIGURE


def _accuracy(row: SplitRow) -> str:
    low, high = row.ci95
    return f"{100 * row.accuracy:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _difference(row: SplitRow) -> str:
    if row.difference is None:
        return NO_FIGURE
    mean, low, high = row.difference
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _format(value: float | None, template: str) -> str:
    return NO_FIGURE if value is None else template.format(value)


def save_comparison_picture(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw each cell's accuracy with its interval and seeds, and its costs; written atomically.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    splits = list(rows[0].splits)
    panels = len(splits) + 2
    figure = Figure(figsize=(3.2 * panels, 1.4 + 0.34 * len(rows)), layout="constrained", dpi=120)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    places = range(len(rows))
    for axis, split in zip(axes, splits, strict=False):
        for place, row in enumerate(rows):
            found = row.splits[split]
            low, high = found.ci95
            axis.plot([100 * low, 100 * high], [place, place], color="C0", linewidth=1.5)
            axis.plot([100 * a for a in found.accuracies], [place] * row.seeds, "|", color="C0")
            axis.plot(100 * found.accuracy, place, "o", color="C0")
        n = rows[0].splits[split].n
        axis.set_xlabel(f"{split}, % of {n:,} clips\n(95 % interval)")
    costs = axes[len(splits) :]
    costs[0].barh(places, [row.costs.train_clips_per_second for row in rows], color="C2")
    costs[0].set_xlabel("training, clips per second")
    costs[1].barh(places, [row.costs.step_us or 0 for row in rows], color="C1")
    costs[1].set_xlabel("one step of a stream, µs")
    axes[0].set_yticks(places, [f"{row.cell}, {row.hidden}" for row in rows], parse_math=False)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize="medium", parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
