"""What a run of one cell and seed gave, and the rows of the comparison."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.analysis.cell_costs import Costs
from speechgru.common.files import write_atomic
from speechgru.errors import DataError
from speechgru.evaluation.metrics import Z_95, wilson_interval

SPLITS = ("validation", "testing")


@dataclass(frozen=True)
class SplitResult:
    """Of each clip of a split whether it was right from a fresh state, "1" or "0"; and how many
    were right with the state carried (None where the model is no stream)."""

    hits: str
    carried: float | None

    @property
    def n(self) -> int:
        """Clips."""
        return len(self.hits)

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return self.hits.count("1") / self.n

    def right(self) -> NDArray[np.float64]:
        """1 or 0 for each clip, (N,)."""
        return np.array([float(hit) for hit in self.hits])


@dataclass(frozen=True)
class RunResult:
    """A trained cell: its width, seed, costs, time of training, and each split."""

    cell: str
    hidden: int
    seed: int
    protocol: str
    steps: int
    seconds: float
    costs: Costs
    splits: dict[str, SplitResult]

    def save(self, path: Path) -> None:
        """Write it atomically as JSON."""
        write_atomic(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "RunResult":
        """Read it.

        Raises:
            DataError: it is no such file.
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

    `ci95` is Wilson's of the mean accuracy; seeds do not narrow it, the clips are the same.
    `difference` is in points, from the cell compared with, with its interval: paired by clips.
    """

    n: int
    accuracy: float
    ci95: tuple[float, float]
    accuracies: tuple[float, ...]
    reset_gap: float | None
    difference: tuple[float, float, float] | None


@dataclass(frozen=True)
class Row:
    """A cell in the table; `splits` is empty where it was not trained."""

    cell: str
    hidden: int
    costs: Costs
    seeds: int
    splits: dict[str, SplitRow]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_rows(results: Sequence[RunResult], reference: str) -> list[Row]:
    """The results of each cell as a row, in their order; differences are from `reference`."""
    of_cell: dict[str, list[RunResult]] = {}
    for result in results:
        of_cell.setdefault(result.cell, []).append(result)
    against = {run.seed: run for run in of_cell.get(reference, [])}
    return [
        Row(
            cell,
            runs[0].hidden,
            _median_costs(runs),
            len(runs),
            {
                split: _split_row(runs, split, {} if cell == reference else against)
                for split in runs[0].splits
            },
        )
        for cell, runs in of_cell.items()
    ]


def _split_row(runs: Sequence[RunResult], split: str, against: dict[int, RunResult]) -> SplitRow:
    of_seeds = [run.splits[split] for run in runs]
    n = of_seeds[0].n
    accuracies = tuple(one.accuracy for one in of_seeds)
    gaps = [100 * (one.accuracy - one.carried / n) for one in of_seeds if one.carried is not None]
    mean = float(np.mean(accuracies))
    paired = [
        run.splits[split].right() - against[run.seed].splits[split].right()
        for run in runs
        if run.seed in against
    ]
    return SplitRow(
        n=n,
        accuracy=mean,
        ci95=wilson_interval(mean * n, n),
        accuracies=accuracies,
        reset_gap=float(np.mean(gaps)) if gaps else None,
        difference=paired_difference(np.mean(paired, axis=0)) if paired else None,
    )


def paired_difference(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of clips' differences (N,) in points, and its 95 % interval (normal).

    >>> [round(value, 2) for value in paired_difference(np.array([1.0, 0, 0, -1, 0, 0, 0, 1]))]
    [12.5, -31.91, 56.91]
    """
    mean = float(differences.mean())
    half = Z_95 * float(differences.std(ddof=1)) / len(differences) ** 0.5
    return 100 * mean, 100 * (mean - half), 100 * (mean + half)


def _median_costs(runs: Sequence[RunResult]) -> Costs:
    """Times are medians over the seeds; the rest is the same for all of them."""
    costs = [run.costs for run in runs]
    values: dict[str, Any] = {}
    for name, value in costs[0].as_dict().items():
        values[name] = value
        if name in ("train_clips_per_second", "step_us", "onnx_step_us") and value is not None:
            values[name] = float(np.median([getattr(one, name) for one in costs]))
    return Costs(**values)
