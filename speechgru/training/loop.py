"""The training loop: from a recipe and a corpus to a run directory."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import torch

from speechgru.common.progress import Progress
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import read_header, save_model
from speechgru.training.data import TrainingData, prepare
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.provenance import provenance
from speechgru.training.recipe import Recipe
from speechgru.training.resuming import check_same_data, check_same_recipe, restore
from speechgru.training.run_directory import (
    ReadOnlyRunDirectory,
    RunDirectory,
    TensorBoardCurves,
)
from speechgru.training.trainer import Trainer
from speechgru.training.validation import Score

#: Seconds between checkpoints that are not at a validation.
CHECKPOINT_EVERY_S = 60.0
#: Metrics are rounded by less than this.
_ROUNDING = 1e-3
#: Steps between readings of the loss, each of which waits for the device.
LOG_EVERY = 20


@dataclass(frozen=True)
class Status:
    """What a run reports while it trains."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    clips_per_second: float
    seconds_left: float
    score: Score | None


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: the file of its best model, and that model's validation metrics."""

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
    data: TrainingData | None = None,
) -> TrainingResult:
    """Train a recipe in the run directory `out`, or resume the run that is there.

    With several processes all of them call this; only the first one writes, and only its `stop` is
    asked.

    Args:
        report: called every few steps.
        stop: asked after each step; when it returns true, the run is saved and ends.
        progress: counts decoded recordings.
        say: called with a line for the user, once training begins: where, and the trainer's notes.
        data: recordings that are decoded already, instead of those that the recipe names.

    Raises:
        UsageError: the recipe names no data, `out` holds a run (or none, to resume), or the run
            started on another kind of device.
        DataError: the data or a teacher is invalid; one of them, or the recipe, has changed since
            the run started; the file whose weights the run starts with is not a model.
        InterruptedRunError: `stop` returned true; the run can be resumed.
        LostProcessError: another process has ended.
        SpeechGRUError: the folder cannot be written, another process trains there, or the loss is
            not finite.
    """
    run = RunDirectory(out) if ranks.is_first else ReadOnlyRunDirectory(out)
    if not resume:
        run.check_free()  # before minutes of decoding

    def has_checkpoint() -> bool:
        return bool(*ranks.broadcast(resume and run.checkpoint.exists()))

    resumed = has_checkpoint()
    if resumed:
        check_same_recipe(run, recipe)
    start = recipe.training.begin_with
    for name in (*recipe.training.teachers, *([start] if start and not resumed else [])):
        read_header(trained_model(name))

    def decoding(done: int, total: int) -> None:
        if stop():
            raise InterruptedRunError(
                "stopped while recordings were decoded; run the same command again to start over"
            )
        if progress is not None:
            progress(done, total)

    data = data or prepare(recipe, decoding)
    if resumed:
        check_same_data(run, data, say)  # a network for other words could not be restored
    trainer = Trainer(recipe, data, device, ranks, warm_start=not resumed)
    with run.lock():
        if not resume:
            run.create(recipe)
        elif resumed or has_checkpoint():  # from another process, while this one decoded
            restore(trainer, run, say)
        else:
            say(f"{out}: no checkpoint in last/, so training starts over")
        where = f"{device}" if ranks.size == 1 else f"{ranks.size} x {device.type}"
        for line in (f"{out}: training on {where}; Ctrl-C saves and stops", *trainer.notes):
            say(line)
        where += " in bf16" if trainer.bf16 else ""
        stored = trainer.batches.clips.store
        position = trainer.state.progress
        run.truncate_metrics(position.metrics_bytes)
        run.append_log(
            f"step {position.step} of {trainer.steps} on {where}: {data.task.protocol}; {stored}"
        )
        return _Loop(trainer, run, report, stop).run_to_end()


class _Loop:
    """Advances a trainer to the end of its run, and keeps the run on disk."""

    def __init__(
        self,
        trainer: Trainer,
        run: RunDirectory,
        report: Callable[[Status], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.trainer, self.run, self.report, self.stop = trainer, run, report, stop
        self.progress, self.ranks = trainer.state.progress, trainer.ranks
        self.curves = TensorBoardCurves(run.tensorboard, self.progress.step, self.ranks.is_first)
        # With several processes asking the first one waits for the GPU.
        on_gpus = self.ranks.size > 1 and trainer.device.type == "cuda"
        self.ask_every = LOG_EVERY if on_gpus else 1
        self.started_at = self.saved_at = time.monotonic()
        self.first_step = self.progress.step
        self.seconds_before = self.progress.seconds
        self.last_score: Score | None = None

    def run_to_end(self) -> TrainingResult:
        progress = self.progress
        keeps_start = self.trainer.recipe.training.keep_start
        if keeps_start and progress.step == 0 and not progress.best_metrics:
            if self._requests()[0]:
                raise self._stopped()  # without a checkpoint: the resumed run begins here, too
            self._validate()
        while not self._has_ended():
            self._step()
        progress.finished = True
        self._save()
        self.run.append_log(f"done: best {progress.best_score:.4f} at step {progress.best_step}")
        if self.ranks.is_first and not self.run.has_model():
            raise DataError(
                f"{self.run.model}: the best weights are missing or damaged, and the run is "
                f"finished; delete {self.run.root} and train again"
            )
        return TrainingResult(
            self.run.root,
            self.run.model,
            progress.step,
            progress.seconds,
            progress.step < self.trainer.steps,
            progress.best_metrics,
        )

    def _has_ended(self) -> bool:
        patience = self.trainer.recipe.training.patience
        out_of_patience = bool(patience) and self.progress.validations_since_best >= patience
        return out_of_patience or self.progress.step >= self.trainer.steps

    def _step(self) -> None:
        trainer, progress = self.trainer, self.progress
        loss = trainer.train_step()
        validate = progress.step % trainer.validate_every == 0 or progress.step == trainer.steps
        stop, save = self._requests() if progress.step % self.ask_every == 0 else (False, False)
        # Read the loss before anything is saved: one that is not finite would spoil the checkpoint.
        if validate or stop or save or progress.step % LOG_EVERY == 0:
            progress.loss = self._check_finite(self.ranks.mean(loss).item())
            self._report()
        if validate:
            self._validate()
        elif stop or save:
            self._save()
        if stop:
            raise self._stopped()

    def _stopped(self) -> InterruptedRunError:
        step = self.progress.step
        self.run.append_log(f"stopped at step {step}")
        return InterruptedRunError(
            f"stopped at step {step} of {self.trainer.steps}; "
            f"resume with: speechgru train --resume {quote(str(self.run.root))}"
        )

    def _requests(self) -> tuple[bool, bool]:
        """Whether to stop, and whether a checkpoint is due; the same in all processes."""
        save = time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S
        stop, save = map(bool, self.ranks.broadcast(self.stop(), save))
        return stop, save

    def _check_finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        return loss

    def _diverged(self, how: str) -> SpeechGRUError:
        return SpeechGRUError(
            f"{how} at step {self.progress.step}; a lower training.learning_rate may help"
        )

    @property
    def _seconds(self) -> float:
        """Training time of the run so far, with that before it was resumed."""
        return self.seconds_before + time.monotonic() - self.started_at

    @property
    def _learning_rate(self) -> float:
        """That of the last step."""
        return self.trainer.learning_rate(max(0, self.progress.step - 1))

    def _report(self) -> None:
        trainer, progress = self.trainer, self.progress
        config = trainer.recipe.training
        seconds = time.monotonic() - self.started_at
        steps = progress.step - self.first_step
        status = Status(
            step=progress.step,
            steps=trainer.steps,
            loss=progress.loss,
            learning_rate=self._learning_rate,
            clips_per_second=steps * config.batch_size / seconds,
            seconds_left=seconds / max(1, steps) * (trainer.steps - progress.step),
            score=self.last_score,
        )
        self.curves.add(
            status.step,
            loss=status.loss,
            learning_rate=status.learning_rate,
            clips_per_second=status.clips_per_second,
        )
        if self.report is not None:
            self.report(status)

    def _validate(self) -> None:
        trainer, progress = self.trainer, self.progress
        model = trainer.candidate()
        try:
            score = self._score(model)
        except DataError as error:  # such as NaN out of enormous weights
            raise self._diverged(f"{error},") from error
        self.last_score = score
        self._check_finite(score.loss)
        if progress.step >= trainer.judged_from:
            progress.validations_since_best += 1
        if self._is_best(score):
            progress.best_score = score.balanced_accuracy
            if score.stream:
                progress.best_score = -score.stream.errors
                model.metadata["decoder"] = score.stream.detector.model_dump()
            progress.best_step = progress.step
            progress.validations_since_best = 0
            progress.best_metrics = {"validation": score.as_dict(), "step": progress.step}
            self._save_best(model)
        row = {
            "step": progress.step,
            "epoch": round(trainer.epoch, 4),
            "seconds": round(self._seconds, 1),
            "learning_rate": self._learning_rate,
            "training_loss": progress.loss,
            **score.as_dict(),
        }
        progress.metrics_bytes = self.run.append_metrics(row)
        self.curves.add(
            progress.step,
            validation_loss=score.loss,
            validation_accuracy=score.accuracy,
            validation_balanced_accuracy=score.balanced_accuracy,
        )
        self._save()
        self._report()

    def _score(self, model: SpeechGRU) -> Score:
        trainer = self.trainer
        score, streams = trainer.validation(model), trainer.stream_validation
        stream = None
        keeps_start = trainer.recipe.training.keep_start
        if streams is not None and (keeps_start or self.progress.step >= trainer.judged_from):
            stream = streams(model, self._first_detector() if keeps_start else None)
        # Sums on a GPU may differ in their last bit, and all processes must decide alike.
        loss, accuracy, balanced = self.ranks.broadcast(
            score.loss, score.accuracy, score.balanced_accuracy
        )
        if stream is not None:
            errors, missed_percent, cost = self.ranks.broadcast(
                stream.errors, stream.missed_percent, stream.cost
            )
            stream = replace(stream, errors=errors, missed_percent=missed_percent, cost=cost)
        return Score(loss, accuracy, balanced, score.n, stream, score.carried)

    def _is_best(self, score: Score) -> bool:
        progress = self.progress
        if score.stream is not None:
            # Scores of single clips cannot be compared with it. Of equal ones the later is better,
            # as a few words are soon all right.
            best = progress.best_metrics.get("validation", {})
            if "stream_errors" not in best:
                return True
            if self.trainer.recipe.training.keep_start:
                misses_no_more = score.stream.missed_percent <= best["missed_percent"] + _ROUNDING
                return misses_no_more and score.stream.cost < best["stream_cost"] - _ROUNDING
            return -score.stream.errors >= progress.best_score
        least_loss = progress.best_metrics.get("validation", {}).get("loss", math.inf)
        return (score.balanced_accuracy, -score.loss) > (progress.best_score, -least_loss)

    def _first_detector(self) -> DetectorConfig:
        """That of the weights that training began with, which later ones keep.

        A higher threshold would have fewer false alarms by missing more words, which words that
        were trained on do not show; a lower one would give back those that are unlearned.
        """
        return DetectorConfig.parse(self._first_settings("decoder"), "the model's decoder")

    def _first_settings(self, name: Literal["decoder", "state_policy"]) -> dict[str, Any]:
        """Settings of the model that training began with, which the run's model has too."""
        if self.trainer.warm_start is not None:
            return getattr(self.trainer.warm_start, name)
        return read_header(self.run.model)["metadata"].get(name, {})

    def _save_best(self, model: SpeechGRU) -> None:
        trainer = self.trainer
        task, recipe = trainer.data.task, trainer.recipe
        if recipe.training.keep_start and (policy := self._first_settings("state_policy")):
            model.metadata["state_policy"] = policy
        model.metadata |= {
            "metrics": self.progress.best_metrics,
            "provenance": provenance(
                recipe.model_dump(mode="json"),
                trainer.precision,
                trainer.data.corpus,
                self.progress.fingerprint,
                {name: len(examples) for name, examples in task.splits.items()},
                self.progress.begun_with,
                self.progress.teachers,
            ),
        }
        if self.ranks.is_first:
            save_model(model, self.run.model)

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        self.progress.seconds = self._seconds
        self.trainer.state.save(self.run.checkpoint)
