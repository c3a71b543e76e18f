"""Training batches of single clips, made on the device: draw, cut, vary; no Python per clip."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechgru.audio.pcm import FULL_SCALE
from speechgru.corpora.background import NOISE_PARTS
from speechgru.corpora.derived import cached
from speechgru.corpora.word_bounds import SPANS, word_spans
from speechgru.errors import UsageError
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.network import SpeechGRU, State
from speechgru.model.row_threads import on_one_core
from speechgru.training.augmentation import (
    colour,
    mask_features,
    swap_halves,
    time_changes,
    uniform,
    vary_sound,
    warp,
    warp_bands,
    warp_times,
)
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.noise import BANK, noise_alone, noise_bank
from speechgru.training.placement import PlacedClips
from speechgru.training.prepared_data import PreparedData
from speechgru.training.random_rows import RowGenerator
from speechgru.training.recipe import Recipe
from speechgru.training.sampling import Chooser, sampling_weights
from speechgru.training.talk import talk_bank, talk_recordings
from speechgru.training.targets import fold_outputs, has_anagram, outputs_of

#: The target of a step that is asked for nothing.
NO_TARGET = -100
#: Clips at most that are searched for the sound of their rooms.
MOST_HEARD = 12_000
#: Stands behind the last word of a row.
NO_WORD = -1


@dataclass(frozen=True)
class Batch:
    """Varied features (B, 2 T, F), the state they begin in, and what is said in them.

    `targets` (B, T) has an output for each step; `words` (B, N) those of the words in their order,
    unknown words too, and `NO_WORD` after the last one, on the host: how many they are is known
    there without waiting for a GPU.
    """

    features: Tensor
    state: State
    targets: Tensor
    words: Tensor


@dataclass(frozen=True)
class Clips:
    """Clips (N, S), the output that each trains (N,), its word's first and last sample (N, 2).

    The outputs are on the host, the others on the model's device.
    """

    samples: Tensor
    outputs: Tensor
    spans: Tensor


@dataclass(frozen=True)
class Rows:
    """Varied samples (B, S), a target per step (B, T), and the words in their order (B, N).

    The words are on the host.
    """

    samples: Tensor
    targets: Tensor
    words: Tensor


class TrainingClips:
    """A task's training clips, drawn balanced by class and varied on the model's device.

    Every random number comes from `generators`, so that their state is the whole state of the
    sampler. With several processes `count` is one's own part of a batch.
    """

    def __init__(
        self,
        data: PreparedData,
        recipe: Recipe,
        model: SpeechGRU,
        ranks: Ranks = ALONE,
    ) -> None:
        task, packed = data.task, data.packed
        device, seed = model.device, recipe.training.seed
        examples = task.split("training")
        clip_samples = model.steps(task.clip_s) * model.step_samples
        placement = recipe.training.placement
        self.placed = PlacedClips(packed, examples, clip_samples, device, placement)
        cuts = self.placed.cuts
        spans = cached(SPANS, packed, [cuts, clip_samples], self._find_words)
        self.model, self.recipe, self.ranks = model, recipe, ranks
        self.generator = RowGenerator(device, ranks.rank, ranks.size)
        self.generator.manual_seed(seed + 1)
        weights = sampling_weights(examples, task.labels, recipe.sampling)
        self.chooser = Chooser(weights, RowGenerator("cpu", ranks.rank, ranks.size))
        self.chooser.generator.manual_seed(seed + 2)
        self.generators = {"sampler": self.generator, "choice": self.chooser.generator}
        self.spans = torch.from_numpy(spans).to(device)
        self.outputs = torch.tensor(outputs_of(examples, model))
        self.weights = torch.from_numpy(weights)
        self.silence = model.vocabulary.id(SILENCE) if SILENCE in model.vocabulary else NO_TARGET
        self.is_silence = self.outputs == self.silence
        self.can_be_scrambled = ~self.is_silence & ~torch.tensor(
            [has_anagram(example.label, task.labels) for example in examples]
        )
        words = np.flatnonzero(~self.is_silence.numpy())
        if len(words) > MOST_HEARD:
            words = np.random.default_rng(0).permutation(words)[:MOST_HEARD]
        corpus, others = data.corpus, data.other.noise("training") if data.other else ()
        names = [path.name for path in (*corpus.noises, *others)]
        self.noise = torch.from_numpy(
            cached(
                BANK,
                packed,
                [cuts[words], clip_samples, spans[words], names, NOISE_PARTS["training"]],
                lambda: noise_bank(corpus, packed, self.placed.read(words), spans[words], others),
            )
        ).to(device)
        #: Running speech (N,), and for each of its steps whether it is speech or silence.
        self.talk: tuple[Tensor, Tensor] | None = None
        if recipe.stream.talk_share:
            self.talk = self._read_talk(data)

    def __len__(self) -> int:
        """Clips in the training split."""
        return len(self.placed)

    def _read_talk(self, data: PreparedData) -> tuple[Tensor, Tensor]:
        recordings = talk_recordings(data, "training")
        if not recordings:
            raise UsageError(
                "stream.talk_share: there is no running speech to train with; "
                "data.other_sounds = true takes that which ships with the package"
            )
        bank = talk_bank(recordings, self.model.sample_rate, self.model.step_samples)
        samples, activity = (torch.from_numpy(part).to(self.model.device) for part in bank)
        return samples, activity

    def _find_words(self) -> NDArray[np.int64]:
        """The first and last sample of each clip's word: (N, 2)."""
        rate = self.placed.packed.rate
        return np.concatenate([word_spans(block, rate) for block in self.placed.blocks()])

    @property
    def clip_samples(self) -> int:
        """S, whole steps."""
        return self.placed.clip_samples

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """What is drawn in here is drawn again afterwards."""
        states = {name: generator.get_state() for name, generator in self.generators.items()}
        yield
        for name, generator in self.generators.items():
            generator.set_state(states[name])

    def raw_features(self, most: int = 1000) -> Tensor:
        """Features of up to `most` clips as they are, for the normalisation: (N, T, F)."""
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:most]
        with torch.no_grad():
            parts = (self.placed.take(part).float() / FULL_SCALE for part in chosen.split(250))
            return torch.cat([self.model.features(part) for part in parts])

    def draw(self, count: int) -> Clips:
        """The next `count` clips, their time varied, some made into unknown words; no noise yet."""
        config, generator, rate = self.recipe.augment, self.generator, self.model.sample_rate
        chosen = self.chooser.next(count)
        packed = self.placed.take(chosen)
        if self.placed.comes_ahead:
            self.placed.expect(self.chooser.peek(count))
        samples = packed / FULL_SCALE
        outputs = self.outputs[chosen]
        spans = self.spans[chosen.to(samples.device, non_blocking=True)]
        if SILENCE in self.model.vocabulary:
            self.make_silence(samples, self.is_silence[chosen])
        if UNKNOWN in self.model.vocabulary:
            self.make_unknown(samples, outputs, spans, self.can_be_scrambled[chosen])
        if config.shift_ms or config.speed:
            speed, shift = time_changes(count, config, rate, samples, generator)
            samples = warp(samples, speed, shift)
            spans = warp_times(spans, speed, shift, self.clip_samples)
        return Clips(samples, outputs, spans)

    def make_silence(self, samples: Tensor, silent: Tensor) -> None:
        """Put noise in the place of clips that are silence, in place: (B, S), (B,) on the host."""
        rows = silent.nonzero()[:, 0].to(samples.device, non_blocking=True)
        samples[rows] = noise_alone(
            self.noise, len(samples), samples.shape[1], self.generator, rows
        )

    def made_words(self, count: int) -> int:
        """How many of `count` clips are made into unknown words, if they can be: an even number."""
        share = self.recipe.sampling.made_unknown_share
        return 2 * max(1, round(count * share / 2)) if share else 0

    def make_unknown(
        self, samples: Tensor, outputs: Tensor, spans: Tensor, allowed: Tensor
    ) -> None:
        """Turn a share of the words into words that do not exist, in place.

        (B, S), (B,), (B, 2), (B,), the outputs and what is allowed on the host. So the model learns
        to refuse what it never heard. The clips of a whole batch stand in random order: the first
        have their halves swapped, the next are played backwards.
        """
        rows, mine = len(samples), self.ranks.share(len(samples) * self.ranks.size)
        half = self.made_words(rows * self.ranks.size) // 2
        turned, swapped = (min(max(end - mine.start, 0), rows) for end in (2 * half, half))
        outputs[:turned].masked_fill_(allowed[:turned], self.model.vocabulary.id(UNKNOWN))
        words, made = samples[:turned], allowed[:turned].to(samples.device, non_blocking=True)
        scrambled = torch.cat([swap_halves(words[:swapped]), words[swapped:].flip(1)])
        words.copy_(torch.where(made[:, None], scrambled, words))
        backwards = spans[swapped:turned]
        turned_spans = samples.shape[1] - backwards.flip(1)
        backwards.copy_(torch.where(made[swapped:, None], turned_spans, backwards))

    def vary_features(self, features: Tensor) -> Tensor:
        """Normalised features (B, T, F), varied in spectrum."""
        model, generator, config = self.model, self.generator, self.recipe.augment
        on_bands = model.features.config.kind == "logmel"
        if config.band_warp and on_bands:
            low, high = 1 - config.band_warp, 1 + config.band_warp
            factor = uniform((len(features),), low, high, features, generator)
            features = warp_bands(features, factor)
        if config.colour_db and on_bands:
            curve = colour(torch.zeros_like(features[:, :1]), config.colour_db, generator)
            features = features + curve / model.deviation
        return features


class ClipBatches:
    """Endless batches of single clips, each from a zero state and asked for its word at its end."""

    def __init__(self, clips: TrainingClips, tail_ms: float) -> None:
        self.clips = clips
        steps = clips.clip_samples // clips.model.step_samples
        places = torch.arange(steps, device=clips.model.device)
        self.asked = places >= steps - clips.model.steps(tail_ms / 1000)

    def draw(self, count: int) -> Batch:
        """A batch of the next `count` clips."""
        return self.featurize(self.vary(count))

    def vary(self, count: int) -> Rows:
        """The next `count` clips, varied: each a row."""
        drawn, config = self.clips.draw(count), self.clips.recipe.augment
        samples = vary_sound(drawn.samples, self.clips.noise, config, self.clips.generator)
        outputs = drawn.outputs[:, None].to(drawn.samples.device, non_blocking=True)
        targets = torch.where(self.asked, outputs, NO_TARGET)
        return Rows(samples, targets, only_words(drawn.outputs[:, None], self.clips))

    @torch.no_grad()
    def featurize(self, rows: Rows) -> Batch:
        """Features of varied rows, themselves varied in spectrum and masked."""
        model, config = self.clips.model, self.clips.recipe.augment
        state = model.initial_state(len(rows.samples))
        features, _ = model.extract(rows.samples, state["samples"])
        hop_ms = model.features.config.hop_ms
        with on_one_core():
            features = self.clips.vary_features(features)
            features = mask_features(features, config, hop_ms, self.clips.generator)
        return Batch(features, state, rows.targets, rows.words)

    def label_shares(self) -> Tensor:
        """How often each label of the model is asked for, made words included: (V,), sum 1."""
        clips, vocabulary = self.clips, self.clips.model.vocabulary
        labels = fold_outputs(clips.outputs, clips.model)
        shares = torch.bincount(labels, clips.weights, minlength=len(vocabulary))
        if UNKNOWN in vocabulary:
            batch_size = clips.recipe.training.batch_size
            scrambled = clips.made_words(batch_size) / batch_size * clips.can_be_scrambled
            moved = torch.bincount(labels, clips.weights * scrambled, minlength=len(vocabulary))
            shares = shares - moved
            shares[vocabulary.id(UNKNOWN)] += moved.sum()
        return shares

    def keep(self, state: State) -> None:
        """What the batch left behind is forgotten: the next one begins from zeros."""

    @property
    def carried(self) -> State:
        """What the next batch needs, beside the generator: nothing."""
        return {}


def only_words(outputs: Tensor, clips: TrainingClips) -> Tensor:
    """The words among outputs (B, N) in their order, behind them `NO_WORD`: (B, N)."""
    words = outputs.masked_fill(outputs == clips.silence, NO_WORD)
    return words.gather(1, (words == NO_WORD).sort(dim=1, stable=True).indices)
