"""Train and score every cell with every seed, going on where an earlier call ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from speechgru.analysis.cell_costs import measure
from speechgru.analysis.cell_variants import Match, variant, variants
from speechgru.analysis.comparison_results import SPLITS, RunResult, SplitResult
from speechgru.backends.pytorch import TorchBackend
from speechgru.common.progress import Progress
from speechgru.errors import UsageError
from speechgru.evaluation.carried import evaluate_carried
from speechgru.evaluation.clips import evaluate_clips
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.safetensors import load_model
from speechgru.training.loop import Status, train
from speechgru.training.prepared_data import PreparedData, prepare
from speechgru.training.recipe import Recipe
from speechgru.training.rundir import RunDirectory
from speechgru.training.trainer import Trainer

#: Random orders of the clips as a stream.
ORDERS = 3


@dataclass(frozen=True)
class Planned:
    """A run of a comparison: one cell, one seed."""

    cell: str
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def result(self) -> Path:
        """What is written when it has been trained and scored."""
        return self.folder / "result.json"


def plan(
    recipe: Recipe,
    data: PreparedData,
    cells: Sequence[str],
    match: Match,
    seeds: int,
    out: Path,
) -> list[Planned]:
    """All runs, a seed of every cell before the next seed.

    Raises:
        UsageError: a cell cannot be made to match, or a folder holds a run of another recipe.
    """
    of_cells = variants(recipe, data.task, cells, match)
    planned = []
    for seed in range(recipe.training.seed, recipe.training.seed + seeds):
        for cell, of_cell in of_cells.items():
            own = variant(of_cell, cell, of_cell.model.hidden, seed)
            planned.append(Planned(cell, seed, own, out / f"{cell}-seed{seed}"))
    for run in planned:
        directory = RunDirectory(run.folder)
        if directory.recipe.exists() and directory.read_recipe() != run.recipe:
            raise UsageError(
                f"{run.folder}: holds a run of another recipe; --out elsewhere begins another "
                "comparison"
            )
    return planned


def carry_out(
    run: Planned,
    data: PreparedData,
    device: torch.device,
    report: Callable[[Status], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Train a run, or go on with it, and score it; what has been done before is only read.

    Raises:
        InterruptedRunError: `stop` said so.
        DataError, SpeechGRUError: as `train` and the evaluation.
    """
    if run.result.exists():
        return RunResult.load(run.result)
    begun = RunDirectory(run.folder).recipe.exists()
    trained = train(run.recipe, run.folder, device, begun, report, stop)
    result = RunResult(
        cell=run.cell,
        hidden=run.recipe.model.hidden,
        seed=run.seed,
        protocol=data.task.protocol,
        steps=trained.steps,
        seconds=trained.seconds,
        costs=measure(Trainer(run.recipe, data, device)),
        splits={
            split: _score(load_model(trained.model, device), data, split)
            for split in SPLITS
            if split in data.task.splits
        },
    )
    result.save(run.result)
    return result


def untrained(run: Planned, data: PreparedData, device: torch.device) -> RunResult:
    """What a run's network costs, without training it."""
    costs = measure(Trainer(run.recipe, data, device))
    width = run.recipe.model.hidden
    return RunResult(run.cell, width, run.seed, data.task.protocol, 0, 0.0, costs, {})


def prepared(recipe: Recipe, progress: Progress | None = None) -> PreparedData:
    """The data of a comparison."""
    return prepare(recipe, progress)


def _score(model: SpeechGRU, data: PreparedData, split: str) -> SplitResult:
    of_split = data.task, split, data.packed
    backend = TorchBackend(model)
    clips = evaluate_clips(backend, *of_split)
    hits = "".join("01"[int(hit)] for hit in clips.predicted == clips.truth)
    if model.config.whole_clips:
        return SplitResult(hits, None)
    carried = evaluate_carried(backend, *of_split, ORDERS)
    return SplitResult(hits, carried.accuracy * carried.n)
