"""One step of training, and everything that it needs in memory."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from speechgru.backends.torch_device import has_amx
from speechgru.corpora.corpus import Task
from speechgru.errors import UsageError
from speechgru.labels import UNKNOWN
from speechgru.model.network import SpeechGRU, State
from speechgru.model.row_threads import on_one_core
from speechgru.training.batches import (
    Batch,
    ClipBatches,
    TrainingClips,
)
from speechgru.training.checkpoint import Progress, TrainingState
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.losses import BatchLoss
from speechgru.training.optimiser import make_optimiser, schedule
from speechgru.training.prepared_data import PreparedData
from speechgru.training.recipe import Recipe
from speechgru.training.shared_layers import share_layers
from speechgru.training.stream_batches import StreamBatches
from speechgru.training.stream_validation import StreamValidation
from speechgru.training.targets import unknown_words
from speechgru.training.validation import Validation
from speechgru.training.warm_start import take_over
from speechgru.training.weight_average import WeightAverage

#: The parts of a training step, in their order.
STAGES = ("draw", "features", "forward", "backward", "optimiser", "average")


class Trainer:
    """A network, its data and its optimiser, stepped by `train_step`.

    `steps` is how many the recipe asks for, the first `streams_begin` of single clips; `state` is
    all that a checkpoint keeps. Of several processes each has its part of every batch, and takes
    the same steps.

    Args:
        begins: whether the run begins here; one that goes on has its weights from a checkpoint, and
            needs the model no more that it began with.

    Raises:
        UsageError: the rows of a batch cannot be shared by so many processes, or the model to begin
            with is of another network.
        DataError: the model to begin with is none.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        device: torch.device,
        ranks: Ranks = ALONE,
        begins: bool = True,
    ) -> None:
        config = recipe.training
        check_shares(recipe, ranks)
        self.recipe, self.data, self.device, self.ranks = recipe, data, device, ranks
        self.bf16 = takes_bf16(config.precision, device)
        self.model = build_model(recipe, data.task, device)
        self.model.metadata = {
            "protocol": data.task.protocol,
            "clip_s": data.task.clip_s,
            "tail_s": config.tail_ms / 1000,
        }
        clips = TrainingClips(data, recipe, self.model, ranks)
        self.batches = make_batches(clips, recipe)
        self.single = ClipBatches(clips, config.tail_ms)
        self.model.set_normalisation(clips.raw_features())
        self.model.set_prior(self.batches.label_shares())
        start = config.begin_with if begins else ""
        self.beginning = take_over(self.model, start) if start else None
        begun_with = self.beginning.provenance if self.beginning else {}
        share_layers(self.model, ranks)
        ranks.follow_first(self.model.state_dict().values())
        self.batch_loss = BatchLoss(self.model, config, ranks)
        self.validation = Validation(
            data.task, data.packed, self.model, carried=bool(recipe.stream.clips)
        )
        self.stream_validation = (
            StreamValidation(data, self.model) if config.choose_by == "streams" else None
        )
        self.steps = max(config.least_steps, round(config.epochs * len(clips) / config.batch_size))
        self.streams_begin = math.ceil(recipe.stream.begin_at * self.steps)
        self.validate_every = max(1, math.ceil(self.steps / config.validations))
        self.state = TrainingState(
            self.model,
            WeightAverage(self.model, config.average_decay),
            make_optimiser(self.model, config),
            clips.generators,
            Progress(fingerprint=data.fingerprint, begun_with=begun_with, precision=self.precision),
            self.batches.carried,
            ranks,
        )

    @property
    def precision(self) -> str:
        """Of products: "bf16" or "float32"."""
        return "bf16" if self.bf16 else "float32"

    def train_step(self, mark: Callable[[str], None] = lambda stage: None) -> Tensor:
        """Draw a batch and learn from it; the loss stays on the device.

        `mark` hears the name of each of the `STAGES` when it has ended.
        """
        in_streams = self.state.progress.step >= self.streams_begin
        batches = self.batches if in_streams else self.single
        rows = batches.vary(self.recipe.training.batch_size // self.ranks.size)
        mark("draw")
        batch = batches.featurize(rows)
        mark("features")
        loss, carried = self.learn(batch, mark)
        batches.keep(carried)
        return loss

    def learn(
        self, batch: Batch, mark: Callable[[str], None] = lambda stage: None
    ) -> tuple[Tensor, State]:
        """Learn from a batch; gives the loss, still on the device, and the new state."""
        state = self.state
        self.model.train()
        loss, carried = self.loss(batch)
        mark("forward")
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.mean_(p.grad for p in self.model.parameters() if p.grad is not None)
        mark("backward")
        for group in state.optimiser.param_groups:
            group["lr"] = self.learning_rate(state.progress.step)
        with on_one_core():
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.training.clip_norm)
        state.optimiser.step()
        mark("optimiser")
        state.progress.step += 1
        with on_one_core():
            state.average.update(state.progress.step)
        mark("average")
        return loss.detach(), carried

    def learning_rate(self, step: int) -> float:
        """That of a step, counted from 0."""
        config = self.recipe.training
        return config.learning_rate * schedule(step, self.steps, config, self.streams_begin)

    def loss(self, batch: Batch) -> tuple[Tensor, State]:
        """What the batch costs, and the state that it ends in."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            heard, state = self.model.encode(batch.features, batch.state)
            loss = self.batch_loss(self.model.apply_heads(heard), batch)
            if self.model.speller is not None:
                spelling = self.batch_loss.spelling(heard, batch)
                loss = torch.lerp(loss, spelling, self.recipe.training.attention_weight)
        return loss, batch.state | state


def takes_bf16(precision: str, device: torch.device) -> bool:
    """Whether a recipe's precision means products of bfloat16 on this device."""
    if device.type == "cpu" and precision == "fast":
        return has_amx()
    return precision == "bf16" or (precision in ("auto", "fast") and device.type == "cuda")


def make_batches(clips: TrainingClips, recipe: Recipe) -> ClipBatches | StreamBatches:
    """Batches of single clips, or of streams where the recipe says so."""
    if not recipe.stream.clips:
        return ClipBatches(clips, recipe.training.tail_ms)
    rows = recipe.batch_rows // clips.ranks.size
    return StreamBatches(clips, recipe.stream, rows, recipe.training.tail_ms)


def check_shares(recipe: Recipe, ranks: Ranks) -> None:
    """Raise a `UsageError` if a batch's rows are not as many for each process."""
    if recipe.batch_rows % ranks.size:
        raise UsageError(
            f"training.batch_size {recipe.training.batch_size} is {recipe.batch_rows} rows, which "
            f"{ranks.size} processes cannot share; a multiple is needed"
        )


def build_model(recipe: Recipe, task: Task, device: torch.device) -> SpeechGRU:
    """A network with fresh weights for a task, the same for the same seed."""
    torch.manual_seed(recipe.training.seed)
    separate = recipe.sampling.separate_unknown_words and UNKNOWN in task.labels
    separate &= "classify" in recipe.model.heads
    words = unknown_words(task) if separate else ()
    return SpeechGRU(recipe.model, recipe.features, task.labels, words).to(device)
