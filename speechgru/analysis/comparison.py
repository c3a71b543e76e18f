"""Comparison of recurrent cells: the same recipe, trained and scored with every cell and seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from speechgru.analysis.cell_costs import measure_costs
from speechgru.analysis.comparison_report import SPLITS, RunResult, SplitResult
from speechgru.backends.pytorch import TorchBackend
from speechgru.corpora.corpus import Task
from speechgru.errors import UsageError
from speechgru.evaluation.clips import evaluate_carried, evaluate_clips
from speechgru.model.cells import CELL_NAMES
from speechgru.model.fronts import FRONT_NAMES
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.safetensors import load_model
from speechgru.training.data import TrainingData
from speechgru.training.loop import Status, train
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.resuming import check_same_data
from speechgru.training.run_directory import RunDirectory
from speechgru.training.trainer import Trainer, build_model

#: What the compared networks have in common.
Match = Literal["parameters", "width"]
MATCHES: tuple[str, ...] = get_args(Match)
#: Matched networks may differ in their number of parameters by this share.
TOLERANCE = 0.03
#: Random orders in which the clips are concatenated to a stream.
ORDERS = 3
#: The width of a Transformer must be a multiple of its number of heads.
_WIDTH_MULTIPLES = {"transformer": 2}
_MAX_WIDTH = 2048


@dataclass(frozen=True)
class PlannedRun:
    """A run of a comparison: one cell, one seed."""

    cell: str
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def result_file(self) -> Path:
        """Written when the run has been trained and scored."""
        return self.folder / "result.json"


def parse_cells(text: str) -> tuple[str, ...]:
    """Names of cells from a comma-separated list; "all" is every cell.

    A cell is placed behind the recipe's front, or behind one named before it: "stack+gru" next to
    "gru" shows what the convolutions of a CRNN contribute.

    Raises:
        UsageError: a name is unknown or given twice.
    """
    names = CELL_NAMES if text == "all" else tuple(part.strip() for part in text.split(","))
    for name in names:
        front, plus, cell = name.rpartition("+")
        if cell not in CELL_NAMES:
            raise UsageError(f"--cells {name!r}: must be one of {', '.join(CELL_NAMES)}")
        if plus and front not in FRONT_NAMES:
            raise UsageError(f"--cells {name!r}: the front must be one of {', '.join(FRONT_NAMES)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--cells {text}: names a cell twice")
    return names


def plan_runs(
    recipe: Recipe,
    data: TrainingData,
    cells: Sequence[str],
    match: Match,
    seeds: int,
    out: Path,
    say: Callable[[str], None] = lambda line: None,
) -> list[PlannedRun]:
    """All runs of a comparison: every cell with one seed, then every cell with the next.

    `say` is called with a line where it cannot be checked that the recordings are the same.

    Raises:
        UsageError: a cell cannot be made to match, or a folder holds a run of another recipe.
        DataError: the recordings have changed since a run started.
    """
    by_cell = variants(recipe, data.task, cells, match)
    runs = []
    for seed in range(recipe.training.seed, recipe.training.seed + seeds):
        for cell, same_seed in by_cell.items():
            seeded = variant(same_seed, cell, same_seed.model.hidden, seed)
            runs.append(PlannedRun(cell, seed, seeded, out / f"{cell}-seed{seed}"))
    for run in runs:
        directory = RunDirectory(run.folder)
        if directory.recipe.exists() and directory.read_recipe() != run.recipe:
            raise UsageError(
                f"{run.folder}: holds a run of another recipe; use another --out for another "
                "comparison"
            )
        if directory.checkpoint.exists() or run.result_file.exists():  # which is only read
            check_same_data(directory, data, say)
    return runs


def perform_run(
    run: PlannedRun,
    data: TrainingData,
    device: torch.device,
    report: Callable[[Status], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Train and score a run, resuming it where it was stopped; a finished one is only read.

    Raises:
        InterruptedRunError: `stop` returned true.
        DataError, SpeechGRUError: as `train` and the evaluation.
    """
    if run.result_file.exists():
        return RunResult.load(run.result_file)
    started = RunDirectory(run.folder).recipe.exists()
    trained = train(run.recipe, run.folder, device, started, report, stop, data=data)
    result = RunResult(
        cell=run.cell,
        hidden=run.recipe.model.hidden,
        seed=run.seed,
        protocol=data.task.protocol,
        steps=trained.steps,
        seconds=trained.seconds,
        costs=measure_costs(Trainer(run.recipe, data, device)),
        splits={
            split: _score(load_model(trained.model, device), data, split)
            for split in SPLITS
            if split in data.task.splits
        },
    )
    result.save(run.result_file)
    return result


def costs_only(run: PlannedRun, data: TrainingData, device: torch.device) -> RunResult:
    """The costs of a run's network, without training it."""
    costs = measure_costs(Trainer(run.recipe, data, device))
    width = run.recipe.model.hidden
    return RunResult(run.cell, width, run.seed, data.task.protocol, 0, 0.0, costs, {})


def variants(recipe: Recipe, task: Task, cells: Sequence[str], match: Match) -> dict[str, Recipe]:
    """The recipe with each cell in turn.

    With "parameters", each cell's width is chosen so that its network has as many parameters as
    that of the recipe itself, to within 3 %.

    Raises:
        UsageError: there is no such width, or a setting does not fit a cell.
    """
    if match == "width":
        return {cell: variant(recipe, cell, recipe.model.hidden) for cell in cells}
    target = count_parameters(recipe, task)
    return {cell: variant(recipe, cell, solve_width(recipe, task, cell, target)) for cell in cells}


def variant(recipe: Recipe, cell: str, hidden: int, seed: int | None = None) -> Recipe:
    """The recipe with another cell (and front, see `parse_cells`), width and seed."""
    table = recipe.model_dump(mode="json")
    front, _, name = cell.rpartition("+")
    table["training"]["begin_with"] = ""  # the weights of one cell do not fit another
    table["model"] |= {"cell": name, "hidden": hidden, "front": front or recipe.model.front}
    if seed is not None:
        table["training"]["seed"] = seed
    return parse_recipe(table, f"the recipe with {cell}")


def solve_width(recipe: Recipe, task: Task, cell: str, target: int) -> int:
    """The width at which a cell's network comes nearest to `target` parameters.

    Raises:
        UsageError: the nearest is off by more than 3 %.
    """
    if cell == recipe.model.cell and count_parameters(recipe, task) == target:
        return recipe.model.hidden
    multiple = _WIDTH_MULTIPLES.get(cell.rpartition("+")[2], 1)

    def count(units: int) -> int:
        return count_parameters(variant(recipe, cell, units * multiple), task)

    low, high = 1, 8
    while count(high) < target and high * multiple < _MAX_WIDTH:  # wide networks are slow to build
        low, high = high, 2 * high
    while low < high:  # binary search for the first width with at least as many
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= target else (middle + 1, high)
    nearest = min((low, max(1, low - 1)), key=lambda units: abs(count(units) - target))
    found = count(nearest)
    if abs(found - target) > TOLERANCE * target:
        raise UsageError(
            f"no width of {cell!r} gives {target:,} parameters to within {100 * TOLERANCE:g} %; "
            f"the nearest, {nearest * multiple}, gives {found:,}; use a larger model.hidden"
        )
    return nearest * multiple


def count_parameters(recipe: Recipe, task: Task) -> int:
    """Number of trained parameters of a recipe's network for a task."""
    with torch.random.fork_rng(devices=[]):
        return build_model(recipe, task, torch.device("cpu")).parameter_count


def _score(model: SpeechGRU, data: TrainingData, split: str) -> SplitResult:
    backend = TorchBackend(model)
    clips = evaluate_clips(backend, data.task, split, data.packed)
    hits = "".join("01"[int(hit)] for hit in clips.predicted == clips.truth)
    if model.config.whole_clips:
        return SplitResult(hits, None)
    carried = evaluate_carried(backend, data.task, split, data.packed, ORDERS)
    return SplitResult(hits, carried.accuracy * carried.n)
