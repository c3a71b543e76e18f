"""Goes on with a run from its checkpoint, if what it learns from is still the same."""

from collections.abc import Callable, Iterator
from typing import Any

from speechgru.errors import DataError
from speechgru.training.data import TrainingData
from speechgru.training.recipe import Recipe
from speechgru.training.run_directory import RunDirectory
from speechgru.training.run_progress import read_progress
from speechgru.training.trainer import Trainer

#: Settings that may change: recordings and teachers are compared by content, not by name, another
#: precision is reported, and the others have no influence on the weights.
_FREE = {
    "description",
    "data.directory",
    "training.placement",
    "training.precision",
    "training.teachers",
}


def check_same_recipe(run: RunDirectory, recipe: Recipe) -> None:
    """Raise a DataError if a run's settings have changed since it started."""
    settings = dict(_settings(recipe.model_dump(mode="json")))
    changes = [
        f"{name} {value} -> {settings[name]}"
        for name, value in _settings(read_progress(run.checkpoint).recipe)
        if name not in _FREE and settings.get(name, value) != value
    ]
    if changes:
        raise DataError(
            f"{run.recipe}: the recipe has changed since this run began ({', '.join(changes)}); "
            "restore it, or start another run with another --out"
        )


def _settings(table: dict[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a recipe, named as with --set."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


def check_same_data(
    run: RunDirectory, data: TrainingData, say: Callable[[str], None] = lambda line: None
) -> None:
    """Raise a DataError if a run's recordings have changed since it started.

    `say` is called with a line where that cannot be checked.
    """
    if not run.checkpoint.exists():
        say(
            f"{run.root}: no checkpoint in last/, so whether the recordings have changed since its "
            "result was measured cannot be checked"
        )
        return
    started = read_progress(run.checkpoint)
    changed = started.fingerprint != data.fingerprint
    # None in checkpoints of earlier versions; decoders of other versions may differ in a bit.
    if not changed and started.samples_crc32 not in (None, data.packed.crc32):
        changed = started.decoders == data.decoders
        if not changed:
            say(
                f"recordings are decoded by {data.decoders} here, and were by {started.decoders}: "
                "whether they have changed cannot be checked"
            )
    if changed:
        raise DataError(
            f"{run.root}: the recordings have changed since this run began, so it cannot be "
            "resumed; start another run with another --out"
        )


def restore(trainer: Trainer, run: RunDirectory, say: Callable[[str], None]) -> None:
    """Continue from a run's checkpoint; `say` is called with a line for the user.

    Raises:
        DataError: the recipe, the recordings or a teacher have changed, or the checkpoint is
            damaged; the model of a refinement is gone.
        UsageError: the run started on another kind of device.
    """
    check_same_recipe(run, trainer.recipe)
    check_same_data(run, trainer.data)
    teachers = trainer.state.progress.teachers
    if read_progress(run.checkpoint).teachers != teachers:
        raise DataError(
            f"{run.root}: the models of training.teachers have changed since this run began, so it "
            "cannot be resumed; start another run with another --out"
        )
    trainer.state.load(run.checkpoint)
    progress = trainer.state.progress
    if not all(trainer.ranks.broadcast(run.has_model())):
        if trainer.recipe.training.keep_start and progress.best_metrics:
            raise DataError(
                f"{run.model}: the model that this run refines is gone or damaged, so it cannot be "
                "resumed; start another run with another --out"
            )
        progress.best_metrics, progress.best_score = {}, -1.0  # so the next ones are the best
    if progress.precision not in ("", trainer.precision):
        say(f"products were in {progress.precision} before, and are in {trainer.precision} here")
    progress.precision = trainer.precision
