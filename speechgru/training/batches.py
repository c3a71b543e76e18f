"""Training batches of single clips: drawn, cut and augmented on the device, without a Python loop
over clips."""

from collections.abc import Iterator
from contextlib import contextmanager

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
    NARROW_HIGH_HZ,
    NARROW_LOW_HZ,
    add_rooms,
    augment_samples,
    chosen_rows,
    colour,
    limit_band,
    mask_features,
    random_time_changes,
    swap_halves,
    uniform,
    warp,
    warp_bands,
    warp_times,
)
from speechgru.training.clip_store import ClipStore
from speechgru.training.data import (
    ClipSampler,
    TrainingData,
    class_ids,
    has_anagram,
    label_ids,
    sampling_weights,
)
from speechgru.training.distribution import ALONE, Ranks, RowGenerator
from speechgru.training.noise import BANK, noise_bank, noise_clips, sound_bank, with_sounds
from speechgru.training.recipe import Recipe
from speechgru.training.rooms import room_bank
from speechgru.training.rows import NO_TARGET, NO_WORD, Batch, Clips, Rows
from speechgru.training.talk import SPEECH, packed_talk, pieces_of, talk_bank, talk_recordings

#: At most so many clips are searched for room noise.
MAX_ROOM_CLIPS = 12_000


class TrainingClips:
    """A task's training clips, drawn with balanced classes and augmented on the model's device.

    All random numbers come from `generators`, so a checkpoint needs only their states. With several
    processes, a `count` is this process's share of a batch.

    Raises:
        UsageError: the recipe wants running speech, and there is none.
    """

    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        model: SpeechGRU,
        ranks: Ranks = ALONE,
    ) -> None:
        task, packed = data.task, data.packed
        device, seed = model.device, recipe.training.seed
        examples = task.split("training")
        clip_samples = model.steps(task.clip_s) * model.step_samples
        placement = recipe.training.placement
        self.store = ClipStore(packed, examples, clip_samples, device, placement)
        cuts = self.store.cuts
        spans = cached(SPANS, packed, [cuts, clip_samples], self._find_words)
        self.model, self.recipe, self.ranks = model, recipe, ranks
        self.generator = RowGenerator(device, ranks.rank, ranks.size)
        self.generator.manual_seed(seed + 1)
        weights = sampling_weights(examples, task.labels, recipe.sampling)
        self.sampler = ClipSampler(weights, RowGenerator("cpu", ranks.rank, ranks.size))
        self.sampler.generator.manual_seed(seed + 2)
        # The names are part of the checkpoint format.
        self.generators = {"sampler": self.generator, "choice": self.sampler.generator}
        self.spans = torch.from_numpy(spans).to(device)
        self.classes = torch.tensor(class_ids(examples, model))
        self.weights = torch.from_numpy(weights)
        self.silence = model.vocabulary.id(SILENCE) if SILENCE in model.vocabulary else NO_TARGET
        self.is_silence = self.classes == self.silence
        self.can_be_scrambled = ~self.is_silence & ~torch.tensor(
            [has_anagram(example.label, task.labels) for example in examples]
        )
        words = np.flatnonzero(~self.is_silence.numpy())
        if len(words) > MAX_ROOM_CLIPS:
            words = np.random.default_rng(0).permutation(words)[:MAX_ROOM_CLIPS]
        corpus, others = data.corpus, data.other.noise("training") if data.other else ()
        names = [path.name for path in (*corpus.noises, *others)]
        self.noise = torch.from_numpy(
            cached(
                BANK,
                packed,
                [cuts[words], clip_samples, spans[words], names, NOISE_PARTS["training"]],
                lambda: noise_bank(corpus, packed, self.store.read(words), spans[words], others),
            )
        ).to(device)
        #: Everyday sounds that are heard as loud as words, (N,).
        self.sounds: Tensor | None = None
        if recipe.sampling.loud_sound_share:
            self.sounds = torch.from_numpy(sound_bank(others, model.sample_rate)).to(device)
        #: Impulse responses of rooms, (N, R).
        self.rooms: Tensor | None = None
        if recipe.augment.room_probability:
            self.rooms = torch.from_numpy(room_bank(model.sample_rate)).to(device)
        #: Running speech (N,), and for each of its steps whether it is speech or silence.
        self.talk: tuple[Tensor, Tensor] | None = None
        #: The samples of it at which a piece may begin, (M,).
        self.piece_starts = torch.zeros(0, dtype=torch.long, device=device)
        if recipe.stream.talk_share:
            self.talk = self._read_talk(data)
            steps = (self.talk[1] == SPEECH).nonzero()[:, 0]
            self.piece_starts = steps * model.step_samples

    def __len__(self) -> int:
        """Number of clips in the training split."""
        return len(self.store)

    def _read_talk(self, data: TrainingData) -> tuple[Tensor, Tensor]:
        if UNKNOWN not in self.model.vocabulary:
            raise UsageError(
                "stream.talk_share: running speech is trained as _unknown_, which is not among "
                "the labels; set stream.talk_share=0"
            )
        recordings = talk_recordings(data, "training")
        if not recordings:
            raise UsageError(
                "stream.talk_share: there is no running speech to train with; use that which "
                "ships with the package by data.other_sounds = true"
            )
        # Few hours of it are heard again and again, so that their voices should vary, too.
        change = self.recipe.augment.speed
        speeds = (1.0, 1 - change, 1 + change) if change else (1.0,)
        model, packed = self.model, packed_talk(data, recordings)
        bank = talk_bank(recordings, model.sample_rate, model.step_samples, speeds, packed)
        samples, activity = (torch.from_numpy(part).to(self.model.device) for part in bank)
        if not (activity == SPEECH).any():
            raise UsageError("stream.talk_share: the recordings of other speech are silent")
        return samples, activity

    def _find_words(self) -> NDArray[np.int64]:
        """The first and last sample of each clip's word: (N, 2)."""
        rate = self.store.packed.rate
        return np.concatenate([word_spans(block, rate) for block in self.store.blocks()])

    @property
    def clip_samples(self) -> int:
        """S, in whole steps."""
        return self.store.clip_samples

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """Reset the generators on exit: what is drawn within is drawn again afterwards."""
        states = {name: generator.get_state() for name, generator in self.generators.items()}
        yield
        for name, generator in self.generators.items():
            generator.set_state(states[name])

    def raw_features(self, max_clips: int = 1000) -> Tensor:
        """Features of up to `max_clips` clips without augmentation, to normalize by: (N, T, F)."""
        generator = torch.Generator().manual_seed(0)
        indices = torch.randperm(len(self), generator=generator)[:max_clips]
        with torch.no_grad():
            blocks = (self.store.get(part).float() / FULL_SCALE for part in indices.split(250))
            return torch.cat([self.model.features(block) for block in blocks])

    def draw(self, count: int) -> Clips:
        """The next `count` clips, changed in time, some scrambled; no noise is added yet."""
        config, generator, rate = self.recipe.augment, self.generator, self.model.sample_rate
        indices = self.sampler.next(count)
        packed = self.store.get(indices)
        if self.store.prefetches:
            self.store.prefetch(self.sampler.peek(count))
        samples = packed / FULL_SCALE
        classes = self.classes[indices]
        spans = self.spans[indices.to(samples.device, non_blocking=True)]
        if SILENCE in self.model.vocabulary:
            self.fill_silence(samples, self.is_silence[indices])
        if UNKNOWN in self.model.vocabulary:
            self.scramble(samples, classes, spans, self.can_be_scrambled[indices])
            if self.talk is not None and self.recipe.sampling.cut_speech_share:
                self.cut_speech(samples, classes, spans, self.talk[0])
        if config.shift_ms or config.speed:
            speed, shift = random_time_changes(count, config, rate, samples, generator)
            samples = warp(samples, speed, shift)
            spans = warp_times(spans, speed, shift, self.clip_samples)
        return Clips(samples, classes, spans)

    def fill_silence(self, samples: Tensor, is_silence: Tensor) -> None:
        """Replace clips of silence by noise and sounds, in place: (B, S), (B,) on the host."""
        rows = is_silence.nonzero()[:, 0].to(samples.device, non_blocking=True)
        count, length = samples.shape
        noise = noise_clips(self.noise, count, length, self.generator, rows)
        if self.sounds is not None:
            share = self.recipe.sampling.loud_sound_share
            noise = with_sounds(noise, self.sounds, share, count, self.generator, rows)
        samples[rows] = noise

    def silence_of(self, targets: Tensor) -> Tensor:
        """Targets of which only those of silence are left."""
        return targets.masked_fill(targets != self.silence, NO_TARGET)

    def scrambled_count(self, count: int) -> int:
        """How many of `count` clips are scrambled if they can be: an even number."""
        share = self.recipe.sampling.made_unknown_share
        return 2 * max(1, round(count * share / 2)) if share else 0

    def scramble(self, samples: Tensor, classes: Tensor, spans: Tensor, allowed: Tensor) -> None:
        """Turn a share of the words into unknown words that do not exist, in place.

        (B, S), (B,), (B, 2), (B,), with classes and `allowed` on the host. So the model also learns
        when not to answer. The first clips of the whole batch, which is in random order, have their
        halves swapped; the next are reversed.
        """
        rows, own = len(samples), self.ranks.share(len(samples) * self.ranks.size)
        half = self.scrambled_count(rows * self.ranks.size) // 2
        end, swap_end = (min(max(stop - own.start, 0), rows) for stop in (2 * half, half))
        classes[:end].masked_fill_(allowed[:end], self.model.vocabulary.id(UNKNOWN))
        words, applies = samples[:end], allowed[:end].to(samples.device, non_blocking=True)
        scrambled = torch.cat([swap_halves(words[:swap_end]), words[swap_end:].flip(1)])
        words.copy_(torch.where(applies[:, None], scrambled, words))
        reversed_words = spans[swap_end:end]
        reversed_spans = samples.shape[1] - reversed_words.flip(1)
        reversed_words.copy_(torch.where(applies[swap_end:, None], reversed_spans, reversed_words))

    def cut_count(self, count: int) -> int:
        """How many of `count` clips become pieces of running speech."""
        return round(count * self.recipe.sampling.cut_speech_share) if self.talk else 0

    def cut_speech(self, samples: Tensor, classes: Tensor, spans: Tensor, talk: Tensor) -> None:
        """Turn a share of the clips into pieces of running speech, in place: (B, S), (B,), (B, 2).

        They are the last of the whole batch, which is in random order.
        """
        rows, own = len(samples), self.ranks.share(len(samples) * self.ranks.size)
        total = rows * self.ranks.size
        first = min(max(total - self.cut_count(total) - own.start, 0), rows)
        numbers = uniform((rows, 3), 0, 1, samples, self.generator)[first:]
        samples[first:], spans[first:] = pieces_of(
            talk, self.piece_starts, numbers, samples.shape[1], self.model.sample_rate
        )
        classes[first:] = self.model.vocabulary.id(UNKNOWN)

    def augment_samples(self, samples: Tensor) -> Tensor:
        """Add rooms and noise to rows, limit the band of some, and change levels: (B, S)."""
        config, generator = self.recipe.augment, self.generator
        count, rate = len(samples), self.model.sample_rate
        if self.rooms is not None:
            rows = chosen_rows(count, config.room_probability, samples, generator)
            choice = uniform((count,), 0, len(self.rooms), samples, generator).long()[rows]
            samples[rows] = add_rooms(samples[rows], self.rooms, choice)
        samples = augment_samples(samples, self.noise, config, generator)
        if config.narrow_probability:
            rows = chosen_rows(count, config.narrow_probability, samples, generator)
            low_hz = uniform((count,), *NARROW_LOW_HZ, samples, generator)[rows]
            high_hz = uniform((count,), *NARROW_HIGH_HZ, samples, generator)[rows]
            samples[rows] = limit_band(samples[rows], rate, low_hz, high_hz)
        return samples

    def augment_features(self, features: Tensor) -> Tensor:
        """Change the spectrum of normalized features (B, T, F)."""
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
    """Endless batches of single clips, each from a zero state, with targets at the clip's end."""

    def __init__(self, clips: TrainingClips, tail_ms: float) -> None:
        self.clips = clips
        steps = clips.clip_samples // clips.model.step_samples
        step = torch.arange(steps, device=clips.model.device)
        self.has_target = step >= steps - clips.model.steps(tail_ms / 1000)

    def draw(self, count: int) -> Batch:
        """A batch of the next `count` clips."""
        return self.featurize(self.draw_rows(count))

    def draw_rows(self, count: int) -> Rows:
        """The next `count` clips, augmented, one per row."""
        drawn = self.clips.draw(count)
        samples = self.clips.augment_samples(drawn.samples)
        classes = drawn.classes[:, None].to(drawn.samples.device, non_blocking=True)
        targets = torch.where(self.has_target, classes, NO_TARGET)
        words = words_first(drawn.classes[:, None], self.clips)
        starts = torch.zeros(count, 1, dtype=torch.long, device=samples.device)
        target_clips = (self.has_target.long() - 1).expand(count, -1)
        wordless = self.clips.silence_of(targets)
        return Rows(samples, targets, words, starts, target_clips, wordless)

    @torch.no_grad()
    def featurize(self, rows: Rows) -> Batch:
        """Features of augmented rows, themselves augmented and masked."""
        model, config = self.clips.model, self.clips.recipe.augment
        state = model.initial_state(len(rows.samples))
        features, _ = model.extract(rows.samples, state["samples"])
        hop_ms = model.features.config.hop_ms
        with on_one_core():
            features = self.clips.augment_features(features)
            features = mask_features(features, config, hop_ms, self.clips.generator)
        return Batch(features, state, rows.targets, rows.words, rows)

    def label_shares(self) -> Tensor:
        """The share of each label in the targets, with made unknown words: (V,), sum 1."""
        clips, vocabulary = self.clips, self.clips.model.vocabulary
        labels = label_ids(clips.classes, clips.model)
        shares = torch.bincount(labels, clips.weights, minlength=len(vocabulary))
        if UNKNOWN in vocabulary:
            batch_size = clips.recipe.training.batch_size
            scrambled = clips.scrambled_count(batch_size) / batch_size * clips.can_be_scrambled
            moved = torch.bincount(labels, clips.weights * scrambled, minlength=len(vocabulary))
            shares = shares - moved
            shares[vocabulary.id(UNKNOWN)] += moved.sum()
            cut = clips.cut_count(batch_size) / batch_size
            shares = shares * (1 - cut)
            shares[vocabulary.id(UNKNOWN)] += cut
        return shares

    def carry(self, state: State) -> None:
        """Drop the state in which a batch ended: the next one starts from zeros."""

    @property
    def carried(self) -> State:
        """What one batch hands to the next, besides the generators: nothing."""
        return {}


def words_first(classes: Tensor, clips: TrainingClips) -> Tensor:
    """The words among classes (B, N), without silence, padded with `NO_WORD`: (B, N)."""
    words = classes.masked_fill(classes == clips.silence, NO_WORD)
    return words.gather(1, (words == NO_WORD).sort(dim=1, stable=True).indices)
