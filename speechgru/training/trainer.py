"""One training step, and everything that it needs in memory."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from speechgru.backends.torch_device import has_amx
from speechgru.corpora.corpus import Task
from speechgru.errors import UsageError
from speechgru.labels import NOT_WORDS, UNKNOWN
from speechgru.model.network import SpeechGRU, State
from speechgru.model.row_threads import on_one_core
from speechgru.recognition.state_policy import CARRY
from speechgru.training.batches import ClipBatches, TrainingClips
from speechgru.training.checkpoint import TrainingState
from speechgru.training.data import TrainingData, unknown_words
from speechgru.training.distribution import ALONE, Ranks, share_layers
from speechgru.training.losses import BatchLoss
from speechgru.training.optimiser import (
    BetweenStartAndAverage,
    WeightAverage,
    make_optimiser,
    schedule,
)
from speechgru.training.recipe import Recipe, TrainingConfig
from speechgru.training.rows import Batch
from speechgru.training.run_progress import Progress
from speechgru.training.stream_batches import StreamBatches
from speechgru.training.stream_validation import StreamValidation
from speechgru.training.teachers import Teachers
from speechgru.training.validation import Validation
from speechgru.training.warm_start import initialize_from

#: The stages of a training step, in order. The names are also JSON keys of `bench train`.
STAGES = ("draw", "features", "forward", "backward", "optimiser", "average")

#: Weights are judged on streams from this share of the steps on.
_JUDGED_FROM = 0.75


class Trainer:
    """A network with its data and its optimizer, advanced by `train_step`.

    `steps` is how many the recipe asks for, of which the first `streams_begin` are on single clips,
    and in the first `encoder_learns_from` only the heads learn; from step `judged_from` on
    validations count for patience and, if the recipe says so, are on streams.
    `state` is all that a checkpoint holds. Several processes each have a share of every batch, and
    take the same steps.

    Args:
        warm_start: whether to load the weights that the recipe starts with. A resumed run has its
            own, and no longer needs the file.

    Raises:
        UsageError: so many processes cannot share the rows of a batch, the model to start with has
            another network, or a teacher other labels.
        DataError: the file to start with, or that of a teacher, is not a model.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        device: torch.device,
        ranks: Ranks = ALONE,
        warm_start: bool = True,
    ) -> None:
        config = recipe.training
        check_shares(recipe, ranks)
        self.recipe, self.data, self.device, self.ranks = recipe, data, device, ranks
        self.bf16 = uses_bf16(config.precision, device)
        self.model = build_model(recipe, data.task, device)
        self.model.metadata = {
            "protocol": data.task.protocol,
            "clip_s": data.task.clip_s,
            "tail_s": config.tail_ms / 1000,
        }
        if recipe.stream.clips:
            self.model.metadata["state_policy"] = CARRY.model_dump()
        clips = TrainingClips(data, recipe, self.model, ranks)
        self.batches = make_batches(clips, recipe)
        self.clip_batches = ClipBatches(clips, config.tail_ms)
        self.model.set_normalisation(clips.raw_features())
        shares = self.batches.label_shares()
        odds = recipe.sampling.unknown_odds
        self.model.set_prior(shares, odds)
        name = config.begin_with if warm_start else ""
        self.warm_start = (
            initialize_from(self.model, name, with_prior=config.keep_start) if name else None
        )
        self.model.front.requires_grad_(not (config.freeze_front and config.begin_with))
        start: dict[str, Tensor] = {}
        if self.warm_start and config.keep_start:
            # With its own label shares; those of this training are learnt from here on.
            start = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.model.set_prior(shares, odds)
        self.teachers = Teachers(config.teachers, self.model, odds) if config.teachers else None
        if self.teachers and isinstance(self.batches, StreamBatches):
            self.batches.carry_also(self.teachers)
        share_layers(self.model, ranks)
        ranks.broadcast_(self.model.state_dict().values())
        self.batch_loss = BatchLoss(self.model, config, ranks)
        self.validation = Validation(
            data.task, data.packed, self.model, carried=bool(recipe.stream.clips)
        )
        self.stream_validation = (
            StreamValidation(data, self.model, with_training_words=config.keep_start)
            if config.choose_by == "streams"
            else None
        )
        self.steps = steps_of(config, len(clips), data.task)
        # At least the last step is of streams.
        self.streams_begin = min(math.ceil(recipe.stream.begin_at * self.steps), self.steps - 1)
        heads_first = config.heads_first if config.begin_with and not config.keep_start else 0.0
        self.encoder_learns_from = math.ceil(heads_first * self.steps)
        #: Single clips say little about streams; and while the learning rate is high, weights with
        #: which the few words of the validation streams are right may be so by chance.
        self.judged_from = self.streams_begin + 1
        if self.stream_validation is not None:
            self.judged_from = max(self.judged_from, math.ceil(_JUDGED_FROM * self.steps))
        self.validate_every = max(1, math.ceil(self.steps / config.validations))
        self.state = TrainingState(
            self.model,
            WeightAverage(self.model, config.average_decay),
            make_optimiser(self.model, config),
            clips.generators,
            Progress(
                fingerprint=data.fingerprint,
                begun_with=self.warm_start.provenance if self.warm_start else {},
                teachers=self.teachers.provenance if self.teachers else [],
                precision=self.precision,
                samples_crc32=data.packed.crc32,
                decoders=data.decoders,
                recipe=recipe.model_dump(mode="json"),
            ),
            self.batches.carried,
            ranks,
            start,
        )
        self._between: BetweenStartAndAverage | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before hours of training, one line each.

        About the data, where the clips are stored, what the weights start with, and in which
        precision products are computed.
        """
        lines = [*self.data.notes, str(self.batches.clips.store)]
        if self.warm_start:
            lines.append(self.warm_start.message)
        if self.bf16:
            lines.append(
                "products in bf16; training.precision = 'float32' computes them in float32"
            )
        return tuple(lines)

    def candidate(self) -> SpeechGRU:
        """The model as it is now: what validation judges, and a run keeps if it is the best.

        It has the averaged weights, or where the recipe goes on with a model (`keep_start`) weights
        between these and that model's.
        """
        state = self.state
        if not state.start:
            return state.average.model
        self._between = self._between or BetweenStartAndAverage(state.average.model, state.start)
        return self._between.at(state.progress.step)

    @property
    def precision(self) -> str:
        """In which products are computed: "bf16" or "float32"."""
        return "bf16" if self.bf16 else "float32"

    @property
    def epoch(self) -> float:
        """Passes over as many clips as the training split has."""
        clips = self.state.progress.step * self.recipe.training.batch_size
        return clips / len(self.batches.clips)

    def train_step(self, mark: Callable[[str], None] = lambda stage: None) -> Tensor:
        """Draw a batch and learn from it; the loss stays on the device.

        `mark` is called with the name of each of the `STAGES` when it has ended.
        """
        in_streams = self.state.progress.step >= self.streams_begin
        batches = self.batches if in_streams else self.clip_batches
        rows = batches.draw_rows(self.recipe.training.batch_size // self.ranks.size)
        mark("draw")
        batch = batches.featurize(rows)
        mark("features")
        loss, state = self.learn(batch, mark)
        batches.carry(state)
        return loss

    def learn(
        self, batch: Batch, mark: Callable[[str], None] = lambda stage: None
    ) -> tuple[Tensor, State]:
        """Learn from a batch; returns the loss, still on the device, and the new state."""
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
        """The learning rate of a step, counted from 0."""
        config = self.recipe.training
        return config.learning_rate * schedule(step, self.steps, config, self.streams_begin)

    def loss(self, batch: Batch) -> tuple[Tensor, State]:
        """The loss of a batch, and the state in which it ends."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            answers, teacher_state = self.teachers(batch) if self.teachers else (None, {})
            encoder_learns = self.state.progress.step >= self.encoder_learns_from
            with nullcontext() if encoder_learns else torch.no_grad():
                encoded, state = self.model.encode(batch.features, batch.state)
            loss = self.batch_loss(self.model.apply_heads(encoded), batch, answers)
            if self.model.speller is not None:
                spelling = self.batch_loss.spelling(encoded, batch)
                loss = torch.lerp(loss, spelling, self.recipe.training.attention_weight)
        return loss, batch.state | state | teacher_state


def steps_of(config: TrainingConfig, clips: int, task: Task) -> int:
    """How many steps a recipe takes with so many training clips."""
    if config.keep_start and config.refine_steps:
        return config.refine_steps
    words = sum(label not in NOT_WORDS for label in task.labels)
    passes = round(config.epochs * clips / config.batch_size)
    return max(passes, config.least_steps, config.least_steps_per_word * words)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether a recipe's precision means products in bfloat16 on this device."""
    if device.type == "cpu" and precision == "fast":
        return has_amx()
    return precision == "bf16" or (precision in ("auto", "fast") and device.type == "cuda")


def make_batches(clips: TrainingClips, recipe: Recipe) -> ClipBatches | StreamBatches:
    """Batches of single clips, or of streams, as the recipe says."""
    if not recipe.stream.clips:
        return ClipBatches(clips, recipe.training.tail_ms)
    rows = recipe.batch_rows // clips.ranks.size
    return StreamBatches(clips, recipe.stream, rows, recipe.training.tail_ms)


def check_shares(recipe: Recipe, ranks: Ranks) -> None:
    """Raise a `UsageError` if the rows of a batch cannot be divided among the processes."""
    if recipe.batch_rows % ranks.size:
        raise UsageError(
            f"training.batch_size {recipe.training.batch_size} is {recipe.batch_rows} rows, which "
            f"{ranks.size} processes cannot share; it must be a multiple"
        )


def build_model(recipe: Recipe, task: Task, device: torch.device) -> SpeechGRU:
    """A network with random weights for a task, the same for the same seed."""
    torch.manual_seed(recipe.training.seed)
    separate = recipe.sampling.separate_unknown_words and UNKNOWN in task.labels
    separate &= "classify" in recipe.model.heads
    words = unknown_words(task) if separate else ()
    return SpeechGRU(recipe.model, recipe.features, task.labels, words).to(device)
