"""The training loop: from a recipe and a corpus to a run directory."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Corpus, Task
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.fingerprint import corpus_fingerprint
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.protocols import make_task
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError, UsageError
from speechgru.labels import UNKNOWN
from speechgru.model import SpeechGRU
from speechgru.modelfile import save_model
from speechgru.training.average import WeightAverage
from speechgru.training.batches import NO_TARGET, Batch, ClipBatches, unknown_words
from speechgru.training.checkpoint import Progress, TrainingState
from speechgru.training.provenance import provenance
from speechgru.training.recipe import Recipe, TrainingConfig
from speechgru.training.rundir import RunDirectory
from speechgru.training.validation import Score, Validation

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
    best_accuracy: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: its best model's file, and that model's validation score."""

    run: Path
    model: Path
    steps: int
    seconds: float
    early: bool
    metrics: dict[str, Any]


@dataclass(frozen=True)
class PreparedData:
    """A recipe's corpus, opened and decoded."""

    corpus: Corpus
    task: Task
    packed: PackedAudio


def prepare(recipe: Recipe, progress: Callable[[int, int], None] | None = None) -> PreparedData:
    """Open and decode what a recipe trains on.

    Raises:
        UsageError: the recipe names no data.
        DataError: the data is not there, damaged, or lacks what the protocol needs.
    """
    name = recipe.data.directory
    if not name:
        raise UsageError("no data: --data DIR (or data.directory in the recipe) is needed")
    corpus = open_corpus(embedded_corpus() if name == "embedded" else Path(name))
    task = make_task(recipe.data.protocol, corpus)
    if recipe.data.clip_s:
        task = Task(task.protocol, task.labels, task.splits, recipe.data.clip_s, task.description)
    task.split("training"), task.split("validation")
    packed = pack(corpus, recipe.features.sample_rate, progress=progress)
    return PreparedData(corpus, task, packed)


def build_model(recipe: Recipe, task: Task, device: torch.device) -> SpeechGRU:
    """A network with fresh weights for a task, the same for the same seed."""
    torch.manual_seed(recipe.training.seed)
    separate = recipe.sampling.separate_unknown_words and UNKNOWN in task.labels
    words = unknown_words(task) if separate else ()
    return SpeechGRU(recipe.model, recipe.features, task.labels, words).to(device)


class Trainer:
    """One run: everything in memory, stepped by `train_step` and kept by `checkpoint`."""

    def __init__(self, recipe: Recipe, data: PreparedData, device: torch.device) -> None:
        config = recipe.training
        self.recipe, self.data, self.device = recipe, data, device
        self.model = build_model(recipe, data.task, device)
        generator = torch.Generator(device=device).manual_seed(config.seed + 1)
        self.batches = ClipBatches(
            data.task, data.corpus, data.packed, recipe, self.model, generator
        )
        self.model.set_normalisation(self.batches.raw_features())
        self.validation = Validation(data.task, data.packed, self.model, config.tail_ms)
        self.steps = max(1, round(config.epochs * len(self.batches) / config.batch_size))
        self.validate_every = max(1, math.ceil(self.steps / config.validations))
        self.state = TrainingState(
            self.model,
            WeightAverage(self.model, config.average_decay),
            make_optimiser(self.model, config),
            generator,
            Progress(fingerprint=corpus_fingerprint(data.corpus)),
        )
        on_cuda = device.type == "cuda"
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and on_cuda)

    def train_step(self) -> Tensor:
        """Draw a batch, learn from it; the loss stays on the device."""
        config, progress = self.recipe.training, self.state.progress
        for group in self.state.optimiser.param_groups:
            group["lr"] = config.learning_rate * schedule(progress.step, self.steps, config)
        self.model.train()
        loss = self.loss(self.batches.draw(config.batch_size))
        self.state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.state.optimiser.step()
        progress.step += 1
        self.state.average.update(progress.step)
        return loss.detach()

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the steps that are asked, with label smoothing."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            log_posteriors, _ = self.model.encode(batch.features, batch.state)
        return functional.cross_entropy(
            log_posteriors.flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=NO_TARGET,
            label_smoothing=self.recipe.training.label_smoothing,
        )


def make_optimiser(model: SpeechGRU, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on the matrices alone (biases and norms are left free)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = model.device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)


def schedule(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate's share of its peak: a linear rise, then a cosine down to 1 %."""
    rise = max(1.0, config.warm_up * steps)
    if step + 1 < rise:
        return (step + 1) / rise
    fall = min(1.0, (step + 1 - rise) / max(1.0, steps - rise))
    return 0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2


def train(
    recipe: Recipe,
    out: Path,
    device: torch.device,
    resume: bool = False,
    report: Callable[[Status], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train a recipe in the run directory `out`, or go on with the run that is there.

    `report` hears of the run every few steps; `progress` of the decoding; where `stop` says true,
    the run is saved and ends.

    Raises:
        UsageError: the recipe names no data, or `out` holds a run (or none, to resume).
        DataError: the data is invalid, or has changed since the run began.
        InterruptedRunError: `stop` said so; the run can be resumed.
        SpeechGRUError: the folder cannot be written, or the loss is no longer finite.
    """
    run = RunDirectory(out)
    data = prepare(recipe, progress)
    trainer = Trainer(recipe, data, device)
    if not resume:
        run.create(recipe)
    with run.locked():
        if resume and run.checkpoint.exists():
            _continue(trainer, run)
        run.truncate_metrics(trainer.state.progress.metrics_bytes)
        done = trainer.state.progress.step
        run.tell(f"step {done} of {trainer.steps} on {device}: {data.task.protocol}")
        return _Loop(trainer, run, report, stop).run_to_end()


def _continue(trainer: Trainer, run: RunDirectory) -> None:
    fingerprint = trainer.state.progress.fingerprint
    trainer.state.load(run.checkpoint)
    if trainer.state.progress.fingerprint != fingerprint:
        raise DataError(
            f"{run.root}: the recordings have changed since this run began, so it cannot go on; "
            "begin another"
        )


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
        self.began_at = self.saved_at = time.monotonic()
        self.began_step = trainer.state.progress.step
        self.seconds_before = trainer.state.progress.seconds
        self.last_score: Score | None = None

    def run_to_end(self) -> TrainingResult:
        trainer, progress = self.trainer, self.trainer.state.progress
        patience = trainer.recipe.training.patience
        early = bool(patience) and progress.validations_since_best >= patience
        while progress.step < trainer.steps and not early:
            loss = trainer.train_step()
            if progress.step % LOG_EVERY == 0 or progress.step == trainer.steps:
                self._look(loss)
            if progress.step % trainer.validate_every == 0 or progress.step == trainer.steps:
                self._validate()
                early = bool(patience) and progress.validations_since_best >= patience
            elif time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S:
                self._save()
            if self.stop():
                self._save()
                raise InterruptedRunError(
                    f"stopped at step {progress.step} of {trainer.steps}; "
                    f"go on with: speechgru train --resume {self.run.root}"
                )
        progress.finished = True
        self._save()
        self.run.tell(f"done: best {progress.best_score:.4f} at step {progress.best_step}")
        return TrainingResult(
            self.run.root,
            self.run.model,
            progress.step,
            progress.seconds,
            early,
            progress.best_metrics,
        )

    def _look(self, loss: Tensor) -> None:
        progress = self.trainer.state.progress
        progress.loss = loss.item()
        if not math.isfinite(progress.loss):
            raise SpeechGRUError(
                f"the loss is {progress.loss} at step {progress.step}; "
                "a lower training.learning_rate may help"
            )
        self._report()

    def _report(self) -> None:
        if self.report is None:
            return
        trainer, progress = self.trainer, self.trainer.state.progress
        config = trainer.recipe.training
        seconds = time.monotonic() - self.began_at
        steps = progress.step - self.began_step
        self.report(
            Status(
                step=progress.step,
                steps=trainer.steps,
                loss=progress.loss,
                learning_rate=config.learning_rate
                * schedule(progress.step - 1, trainer.steps, config),
                clips_per_second=steps * config.batch_size / seconds,
                seconds_left=seconds / max(1, steps) * (trainer.steps - progress.step),
                score=self.last_score,
                best_accuracy=progress.best_score,
            )
        )

    def _validate(self) -> None:
        trainer, progress = self.trainer, self.trainer.state.progress
        score = self.last_score = trainer.validation(trainer.state.average.model)
        progress.validations_since_best += 1
        if score.balanced_accuracy > progress.best_score:
            progress.best_score, progress.best_step = score.balanced_accuracy, progress.step
            progress.validations_since_best = 0
            progress.best_metrics = {"validation": asdict(score), "step": progress.step}
            self._keep_best()
        row = {"step": progress.step, "loss": progress.loss, **asdict(score)}
        progress.metrics_bytes = self.run.append_metrics(row)
        self._save()
        self._report()

    def _keep_best(self) -> None:
        trainer, model = self.trainer, self.trainer.state.average.model
        task, recipe = trainer.data.task, trainer.recipe
        model.metadata = {
            "protocol": task.protocol,
            "clip_s": task.clip_s,
            "tail_s": recipe.training.tail_ms / 1000,
            "metrics": trainer.state.progress.best_metrics,
            "provenance": provenance(
                recipe.model_dump(mode="json"),
                trainer.data.corpus,
                trainer.state.progress.fingerprint,
                {name: len(examples) for name, examples in task.splits.items()},
            ),
        }
        save_model(model, self.run.model)

    def _save(self) -> None:
        progress = self.trainer.state.progress
        self.saved_at = time.monotonic()
        progress.seconds = self.seconds_before + self.saved_at - self.began_at
        self.trainer.state.save(self.run.checkpoint)
