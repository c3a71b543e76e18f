"""Training batches made on the device: draw, cut, vary; no Python per clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from speechgru.augment import (
    augment_samples,
    colour,
    mask_features,
    swap_halves,
    uniform,
    warp_bands,
)
from speechgru.corpora.corpus import Corpus, Example, Task
from speechgru.corpora.packed import FULL_SCALE, Packed, PackedAudio, to_packed
from speechgru.corpora.silence import NOISE_PARTS
from speechgru.errors import DataError
from speechgru.labels import NOT_WORDS, SILENCE, UNKNOWN
from speechgru.model import SpeechGRU, State
from speechgru.training.recipe import Recipe, SamplingConfig

#: The target of a step that is asked for nothing.
NO_TARGET = -100
#: Stands behind the last word of a row.
NO_WORD = -1
#: How much more than words the spectra of silence are varied: noise is of any colour.
SILENCE_COLOUR = 3.0
#: Points of a second's random level of noise, as of steps, clicks and breath.
LEVEL_POINTS = 12


@dataclass(frozen=True)
class Batch:
    """Varied features (B, 2 T, F), the state they begin in, and what is said in them.

    `targets` (B, T) has an output for each step; `words` (B, N) those of the words in their order,
    unknown words too, and `NO_WORD` after the last one.
    """

    features: Tensor
    state: State
    targets: Tensor
    words: Tensor


class ClipBatches:
    """Endless class-balanced batches of a task's training clips, made on the model's device.

    All clips lie there as 16-bit samples; a batch is drawn, varied (time, level, noise, spectrum,
    masks) and turned into features by a few batched operations. Every random number comes from
    `generator`, so that its state is the whole state of the sampler.
    """

    def __init__(
        self,
        task: Task,
        corpus: Corpus,
        packed: PackedAudio,
        recipe: Recipe,
        model: SpeechGRU,
        generator: torch.Generator,
    ) -> None:
        device = model.device
        examples = task.split("training")
        clip_samples = model.steps(task.clip_s) * model.step_samples
        self.model, self.recipe, self.generator = model, recipe, generator
        clips = packed.gather(examples, clip_samples)
        noise = background(corpus, packed, model.sample_rate)
        fill_silence(clips, examples, noise)
        self.clips, self.noise = torch.from_numpy(clips).to(device), noise.to(device)
        self.targets = torch.tensor(outputs_of(examples, model), device=device)
        weights = sampling_weights(examples, task.labels, recipe.sampling)
        self.weights = torch.from_numpy(weights).to(device)
        silence = model.vocabulary.id(SILENCE) if SILENCE in model.vocabulary else NO_TARGET
        self.is_silence = self.targets == silence
        self.can_be_scrambled = ~self.is_silence & ~torch.tensor(
            [has_anagram(example.label, task.labels) for example in examples], device=device
        )
        steps = clip_samples // model.step_samples
        tail = model.steps(recipe.training.tail_ms / 1000)
        self.asked = torch.arange(steps, device=device) >= steps - tail

    def label_shares(self) -> Tensor:
        """How often each label of the model is drawn, made words included: (V,), sum 1."""
        labels, unknown_words = len(self.model.labels), len(self.model.unknown_words)
        outputs = torch.arange(labels + unknown_words, device=self.targets.device)
        unknown = self.model.vocabulary.id(UNKNOWN) if UNKNOWN in self.model.vocabulary else 0
        label = torch.where(outputs < labels, outputs, unknown)[self.targets]
        shares = torch.bincount(label, self.weights, minlength=labels)
        if UNKNOWN in self.model.vocabulary:
            scrambled = self.recipe.sampling.made_unknown_share * self.can_be_scrambled
            moved = torch.bincount(label, self.weights * scrambled, minlength=labels)
            shares = shares - moved
            shares[unknown] += moved.sum()
        return shares.clamp_min(1e-6)

    def __len__(self) -> int:
        """Clips in the training split."""
        return len(self.clips)

    def raw_features(self, most: int = 1000) -> Tensor:
        """Features of up to `most` clips as they are, for the normalisation: (N, T, F)."""
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:most]
        clips = self.clips[chosen.to(self.clips.device)].float() / FULL_SCALE
        with torch.no_grad():
            return torch.cat([self.model.features(part) for part in clips.split(250)])

    def draw(self, count: int) -> Batch:
        """The next `count` clips, varied."""
        return self.featurize(*self.vary(count))

    def vary(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count` clips' varied samples (B, S), and their targets (B, T)."""
        config, generator = self.recipe.augment, self.generator
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        samples = self.clips[chosen].float().div_(FULL_SCALE)
        if SILENCE in self.model.vocabulary:
            level = silence_level(count, samples.shape[1], samples, generator)
            samples = torch.where(self.is_silence[chosen][:, None], samples * level, samples)
        targets = self.targets[chosen]
        if UNKNOWN in self.model.vocabulary:
            self.make_unknown(samples, targets, self.can_be_scrambled[chosen])
        samples = augment_samples(samples, self.noise, config, self.model.sample_rate, generator)
        return samples, torch.where(self.asked, targets[:, None], NO_TARGET)

    def make_unknown(self, samples: Tensor, targets: Tensor, allowed: Tensor) -> None:
        """Turn a share of the words into words that do not exist, in place: (B, S), (B,), (B,).

        So the model learns to refuse what it never heard. The clips of a batch stand in random
        order: the first have their halves swapped, the next are played backwards.
        """
        half = round(len(samples) * self.recipe.sampling.made_unknown_share / 2)
        words, made = samples[: 2 * half], allowed[: 2 * half]
        scrambled = torch.cat([swap_halves(words[:half]), words[half:].flip(1)])
        words.copy_(torch.where(made[:, None], scrambled, words))
        targets[: 2 * half].masked_fill_(made, self.model.vocabulary.id(UNKNOWN))

    @torch.no_grad()
    def featurize(self, samples: Tensor, targets: Tensor) -> Batch:
        """Features of varied samples (B, S), themselves varied in spectrum and masked."""
        model, generator, config = self.model, self.generator, self.recipe.augment
        state = model.initial_state(len(samples))
        features, _ = model.extract(samples, state["samples"])
        words = targets[:, -1:]  # a clip's end is asked for its word
        silence = model.vocabulary.id(SILENCE) if SILENCE in model.vocabulary else NO_TARGET
        silent = words == silence
        on_bands = model.features.config.kind == "logmel"
        if config.band_warp and on_bands:
            low, high = 1 - config.band_warp, 1 + config.band_warp
            factor = uniform((len(features),), low, high, features, generator)
            features = warp_bands(features, factor)
        if config.colour_db and on_bands:
            curve = colour(torch.zeros_like(features[:, :1]), config.colour_db, generator)
            curve = torch.where(silent[:, :, None], curve * SILENCE_COLOUR, curve)
            features = features + curve / model.deviation
        hop_ms = model.features.config.hop_ms
        features = mask_features(features, config, hop_ms, generator)
        return Batch(features, state, targets, words.masked_fill(silent, NO_WORD))


def has_anagram(word: str, labels: tuple[str, ...]) -> bool:
    """Whether another label has the same letters: scrambled, "no" may be "on"."""
    letters = sorted(word)
    return any(label != word and sorted(label) == letters for label in labels)


def outputs_of(examples: tuple[Example, ...], model: SpeechGRU) -> list[int]:
    """The output of the head that each example trains; an unknown word may have its own."""
    outputs = {name: i for i, name in enumerate((*model.labels, *model.unknown_words))}
    return [
        outputs[example.label]
        if example.label != UNKNOWN
        else outputs.get(example.word, outputs[UNKNOWN])
        for example in examples
    ]


def unknown_words(task: Task) -> tuple[str, ...]:
    """The words that stand behind `_unknown_` in a task's training clips."""
    words = {e.word for e in task.split("training") if e.label == UNKNOWN}
    return tuple(sorted(words - {UNKNOWN} - set(task.labels)))


def sampling_weights(
    examples: tuple[Example, ...], labels: tuple[str, ...], config: SamplingConfig
) -> NDArray[np.float64]:
    """How likely each example is drawn: (N,), sum 1.

    Every word is drawn equally often, whatever its clips; `_unknown_` and `_silence_` as the
    configuration says; within `_unknown_`, a word in proportion to the root of its clips.

    Raises:
        DataError: a label has no training clip.
    """
    counts: dict[tuple[str, str], int] = {}
    for example in examples:
        key = (example.label, example.word)
        counts[key] = counts.get(key, 0) + 1
    shares: dict[tuple[str, str], float] = {}
    for label in labels:
        roots = {key: count**0.5 for key, count in counts.items() if key[0] == label}
        if not roots:
            if label in NOT_WORDS:
                continue
            raise DataError(f"{label!r} has no training clip; each word needs at least one")
        weight = {UNKNOWN: config.unknown_weight, SILENCE: config.silence_weight}.get(label, 1.0)
        shares |= {key: weight * root / sum(roots.values()) for key, root in roots.items()}
    weights = np.array([shares[e.label, e.word] / counts[e.label, e.word] for e in examples])
    return weights / weights.sum()


def fill_silence(clips: Packed, examples: Sequence[Example], noise: Tensor) -> None:
    """Digital silence becomes stretches of noise, seeded, as no room is silent: (N, S), in place.

    `noise` is (M,) as `background` has it.
    """
    random = np.random.default_rng(0)
    for clip, example in zip(clips, examples, strict=True):
        if example.path is None:
            start = random.integers(0, len(noise) - len(clip))
            clip[:] = to_packed(noise[start : start + len(clip)].numpy())


def silence_level(count: int, length: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random levels for background noise, (count, length) in [0, 1]; half are steady, half move.

    A background recording has one level; a room has any, and noises that come and go: no word
    either.
    """
    steady = uniform((count, 1), 0, 1, like, generator).square()
    points = uniform((count, 1, LEVEL_POINTS), 0, 1, like, generator).square()
    moving = functional.interpolate(points, size=length, mode="linear").squeeze(1)
    moves = uniform((count, 1), 0, 1, like, generator) < 0.5
    return steady * torch.where(moves, moving, 1.0)


def background(corpus: Corpus, packed: PackedAudio, sample_rate: int) -> Tensor:
    """Noise to mix in, end to end on the scale of [-1, 1]: (N,).

    The training part of the corpus' background recordings, and a minute of white, pink and brown
    noise, seeded.
    """
    first, last = NOISE_PARTS["training"]
    recorded = [packed.samples(path) for path in corpus.noises]
    noises = [
        part[int(first * len(part)) : int(last * len(part))] / FULL_SCALE for part in recorded
    ]
    random = np.random.default_rng(0)
    length = 20 * sample_rate
    hertz = np.fft.rfftfreq(length, 1 / sample_rate)
    for slope in (0.0, 0.5, 1.0):  # amplitude falls with this power of the frequency
        spectrum = np.fft.rfft(random.standard_normal(length)) / np.maximum(hertz, 30.0) ** slope
        noise = np.fft.irfft(spectrum, length)
        noises.append(0.1 * noise / noise.std())
    return torch.from_numpy(np.concatenate(noises).astype(np.float32))
