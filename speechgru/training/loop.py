"""The training loop: from a recipe and a corpus to a run directory."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechgru.common.progress import Progress
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import read_header, save_model
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.prepared_data import prepare
from speechgru.training.provenance import provenance
from speechgru.training.recipe import Recipe
from speechgru.training.rundir import RunDirectory, SilentRunDirectory
from speechgru.training.tensorboard import Board
from speechgru.training.trainer import Trainer
from speechgru.training.validation import Score

#: Seconds between checkpoints that are not at a validation.
CHECKPOINT_EVERY_S = 60.0
#: Steps between looks at the loss: each look waits for the device.
LOG_EVERY = 20


@dataclass(frozen=True)
class Status:
    """What a run shows while it trains."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    clips_per_second: float
    seconds_left: float
    score: Score | None


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: its best model's file, and that model's validation score."""

    run: Path
    model: Path
    steps: int
    seconds: float
    early: bool
    metrics: dict[str, Any]


def train(
    recipe: Recipe,
    out: Path,
    device: torch.device,
    resume: bool = False,
    report: Callable[[Status], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Train a recipe in the run directory `out`, or go on with the run that is there.

    `report` hears of the run every few steps; `progress` of the decoding; `say` where the clips
    lie, what the weights begin with, and of products in bf16; where `stop` says true, the run is
    saved and ends. Of several processes all train, and the first alone writes, and is asked to
    stop.

    Raises:
        UsageError: the recipe names no data, `out` holds a run (or none, to resume), or the run
            began on another kind of device.
        DataError: the data is invalid, or has changed since the run began; the model that the run
            begins with is none.
        InterruptedRunError: `stop` said so; the run can be resumed.
        LostProcessError: another process is gone.
        SpeechGRUError: the folder cannot be written, or the loss is no longer finite.
    """
    run = RunDirectory(out) if ranks.is_first else SilentRunDirectory(out)
    if not resume:
        run.check_free()  # before minutes of decoding

    def begun() -> bool:
        return bool(*ranks.told_by_first(resume and run.checkpoint.exists()))

    goes_on = begun()
    if (start := recipe.training.begin_with) and not goes_on:
        read_header(trained_model(start))

    def decoding(done: int, total: int) -> None:
        if stop():
            raise InterruptedRunError(
                "stopped while the recordings were decoded; the same command begins again"
            )
        if progress is not None:
            progress(done, total)

    data = prepare(recipe, decoding)
    trainer = Trainer(recipe, data, device, ranks, begins=not goes_on)
    placed = str(trainer.batches.clips.placed)
    for line in (*data.notes, placed):
        say(line)
    if trainer.beginning:
        say(trainer.beginning.told)
    if trainer.bf16:
        say("products in bf16; training.precision = 'float32' for whole ones")
    if not resume:
        run.create(recipe)
    with run.locked():
        if goes_on or begun():  # by another process, while this one decoded
            _continue(trainer, run, say)
        done = trainer.state.progress
        run.truncate_metrics(done.metrics_bytes)
        where = f"{device}" if ranks.size == 1 else f"{ranks.size} of {device.type}"
        where += " in bf16" if trainer.bf16 else ""
        run.tell(f"step {done.step} of {trainer.steps} on {where}: {data.task.protocol}; {placed}")
        return _Loop(trainer, run, report, stop).run_to_end()


def _continue(trainer: Trainer, run: RunDirectory, say: Callable[[str], None]) -> None:
    trainer.state.load(run.checkpoint)
    progress = trainer.state.progress
    if progress.fingerprint != trainer.data.fingerprint:
        raise DataError(
            f"{run.root}: the recordings have changed since this run began, so it cannot go on; "
            "begin another"
        )
    if progress.precision not in ("", trainer.precision):
        say(f"products were in {progress.precision} before, and are in {trainer.precision} here")
    progress.precision = trainer.precision


class _Loop:
    """Steps a trainer to the end of its run, and keeps what it does on disk."""

    def __init__(
        self,
        trainer: Trainer,
        run: RunDirectory,
        report: Callable[[Status], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.trainer, self.run, self.report, self.stop = trainer, run, report, stop
        self.progress, self.ranks = trainer.state.progress, trainer.ranks
        self.board = Board(run.board, self.progress.step, writes=self.ranks.is_first)
        # To ask the first of several processes is to wait for a GPU.
        self.ask_every = LOG_EVERY if self.ranks.size > 1 and trainer.device.type == "cuda" else 1
        self.began_at = self.saved_at = time.monotonic()
        self.began_step = self.progress.step
        self.seconds_before = self.progress.seconds
        self.last_score: Score | None = None

    def run_to_end(self) -> TrainingResult:
        progress = self.progress
        while not self._ended():
            self._step()
        progress.finished = True
        self._save()
        self.run.tell(f"done: best {progress.best_score:.4f} at step {progress.best_step}")
        return TrainingResult(
            self.run.root,
            self.run.model,
            progress.step,
            progress.seconds,
            progress.step < self.trainer.steps,
            progress.best_metrics,
        )

    def _ended(self) -> bool:
        patience = self.trainer.recipe.training.patience
        gave_up = bool(patience) and self.progress.validations_since_best >= patience
        return gave_up or self.progress.step >= self.trainer.steps

    def _step(self) -> None:
        trainer, progress = self.trainer, self.progress
        loss = trainer.train_step()
        due = progress.step % trainer.validate_every == 0 or progress.step == trainer.steps
        stopped, late = self._wishes() if progress.step % self.ask_every == 0 else (False, False)
        # What is kept must have been looked at: a loss that is not finite spoils the checkpoint.
        if due or stopped or late or progress.step % LOG_EVERY == 0:
            self._look(loss)
        if due:
            self._validate()
        elif stopped or late:
            self._save()
        if stopped:
            self.run.tell(f"stopped at step {progress.step}")
            raise InterruptedRunError(
                f"stopped at step {progress.step} of {trainer.steps}; "
                f"go on with: speechgru train --resume {self.run.root}"
            )

    def _wishes(self) -> tuple[bool, bool]:
        """Whether to stop, and whether it is time for a checkpoint: all processes do alike."""
        late = time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S
        stopped, late = map(bool, self.ranks.told_by_first(self.stop(), late))
        return stopped, late

    def _look(self, loss: Tensor) -> None:
        self.progress.loss = self._finite(self.ranks.mean(loss).item())
        self._report()

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise SpeechGRUError(
                f"the loss is {loss} at step {self.progress.step}; "
                "a lower training.learning_rate may help"
            )
        return loss

    def _report(self) -> None:
        trainer, progress = self.trainer, self.progress
        config = trainer.recipe.training
        seconds = time.monotonic() - self.began_at
        steps = progress.step - self.began_step
        status = Status(
            step=progress.step,
            steps=trainer.steps,
            loss=progress.loss,
            learning_rate=trainer.learning_rate(progress.step - 1),
            clips_per_second=steps * config.batch_size / seconds,
            seconds_left=seconds / max(1, steps) * (trainer.steps - progress.step),
            score=self.last_score,
        )
        self.board.add(
            status.step,
            loss=status.loss,
            learning_rate=status.learning_rate,
            clips_per_second=status.clips_per_second,
        )
        if self.report is not None:
            self.report(status)

    def _validate(self) -> None:
        trainer, progress = self.trainer, self.progress
        score = self._score()
        self.last_score = score
        self._finite(score.loss)
        if progress.step > trainer.streams_begin:  # single clips say little of what streams learn
            progress.validations_since_best += 1
        if self._is_best(score):
            progress.best_score = score.balanced_accuracy
            if score.stream:
                progress.best_score = -score.stream.errors
                trainer.state.average.model.metadata["decoder"] = score.stream.detector.model_dump()
            progress.best_step = progress.step
            progress.validations_since_best = 0
            progress.best_metrics = {"validation": score.as_dict(), "step": progress.step}
            self._keep_best()
        row = {"step": progress.step, "loss": progress.loss, **score.as_dict()}
        progress.metrics_bytes = self.run.append_metrics(row)
        self.board.add(
            progress.step,
            validation_loss=score.loss,
            validation_accuracy=score.accuracy,
            validation_balanced_accuracy=score.balanced_accuracy,
        )
        self._save()
        self._report()

    def _score(self) -> Score:
        trainer, model = self.trainer, self.trainer.state.average.model
        score, streams = trainer.validation(model), trainer.stream_validation
        stream = None
        if streams is not None and self.progress.step > trainer.streams_begin:
            stream = streams(model)
        # A GPU's sums may differ in their last bit, and all processes must do alike.
        loss, accuracy, balanced, errors = self.ranks.told_by_first(
            score.loss, score.accuracy, score.balanced_accuracy, stream.errors if stream else 0.0
        )
        if stream is not None:
            stream = replace(stream, errors=errors)
        return Score(loss, accuracy, balanced, score.n, stream)

    def _is_best(self, score: Score) -> bool:
        progress = self.progress
        if score.stream is not None:
            # Of equal ones the later: few words are soon all right. What single clips chose is not
            # to be compared.
            first = progress.best_step <= self.trainer.streams_begin
            return first or -score.stream.errors >= progress.best_score
        least_loss = progress.best_metrics.get("validation", {}).get("loss", math.inf)
        return (score.balanced_accuracy, -score.loss) > (progress.best_score, -least_loss)

    def _keep_best(self) -> None:
        trainer, model = self.trainer, self.trainer.state.average.model
        task, recipe = trainer.data.task, trainer.recipe
        model.metadata |= {
            "metrics": self.progress.best_metrics,
            "provenance": provenance(
                recipe.model_dump(mode="json"),
                trainer.precision,
                trainer.data.corpus,
                self.progress.fingerprint,
                {name: len(examples) for name, examples in task.splits.items()},
                self.progress.begun_with,
            ),
        }
        if self.ranks.is_first:
            save_model(model, self.run.model)

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        self.progress.seconds = self.seconds_before + self.saved_at - self.began_at
        self.trainer.state.save(self.run.checkpoint)
