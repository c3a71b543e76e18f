"""What a recipe trains on: the corpus, decoded, and how often each clip is drawn as which class.

The classes of a network are the outputs of its head: its labels, and behind them each unknown word
that is told apart in training.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechgru.audio.files import read
from speechgru.audio.pcm import FULL_SCALE
from speechgru.common.progress import Progress
from speechgru.common.threads import in_threads
from speechgru.common.wording import counted
from speechgru.corpora import open_corpus
from speechgru.corpora.check import SILENT_PEAK
from speechgru.corpora.corpus import SPLIT_RULES, SPLITS, Corpus, Example, Task
from speechgru.corpora.fingerprint import corpus_fingerprint
from speechgru.corpora.guesses import layout_guesses, speaker_guess
from speechgru.corpora.listing import summarize_skipped
from speechgru.corpora.other_sounds import OtherSounds, other_sounds
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.protocols import make_task, unheard_speakers
from speechgru.corpora.speaker_names import is_false_alarm, is_made
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import DataError, UsageError
from speechgru.labels import NOT_WORDS, SILENCE, UNKNOWN
from speechgru.model.network import SpeechGRU
from speechgru.training.distribution import RowGenerator, random_rows
from speechgru.training.recipe import Recipe, SamplingConfig

#: How often each reviewed false alarm is drawn, as a multiple of a word.
_ALARM_WEIGHT = 0.1
#: Their "word", which no recording has.
_ALARM = "_alarm_"
#: Speech may exceed the clip by this much before the user is told that it is cut.
_NEGLIGIBLE_S = 0.1
#: At most so many recordings show how soon after their words they end.
_MEASURED = 100
#: So few people are named, with what their recordings are for.
_FEW_SPEAKERS = 6
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainingData:
    """A recipe's corpus, task and samples.

    Args:
        fingerprint: distinguishes the recordings from any others.
        other: the other speech and noise that ship with the package, if the recipe uses them.
        notes: what the user should know about the recordings before hours of training, one line
            each.
    """

    corpus: Corpus
    task: Task
    packed: PackedAudio
    fingerprint: str
    other: OtherSounds | None = None
    notes: tuple[str, ...] = ()

    @property
    def decoders(self) -> str:
        """The libraries that decoded and resampled the recordings, which may differ in a bit."""
        return f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"


def prepare(recipe: Recipe, progress: Progress | None = None) -> TrainingData:
    """Open and decode what a recipe trains on; `progress` counts decoded recordings.

    Raises:
        UsageError: the recipe names no data.
        DataError: the data is missing, damaged, or lacks what the protocol needs.
    """
    name = recipe.data.directory
    if not name:
        raise UsageError("no data: name it with --data DIR (or data.directory in the recipe)")
    corpus = open_corpus(name)
    task = task_of(recipe, corpus)
    channel = recipe.data.channel or None
    packed = pack(corpus, recipe.features.sample_rate, progress=progress, channel=channel)
    other = other_sounds() if recipe.data.other_sounds else None
    guesses = layout_guesses(corpus)
    if corpus.guessed_speakers:
        guesses += (f"{SPLIT_RULES[corpus.split_by]}; {speaker_guess(corpus.guessed_speakers)}",)
    notes = (
        *guesses,
        *summarize_skipped(corpus.skipped),
        *_split_notes(task, corpus),
        *_silent_words(task, packed),
        *_cut_recordings(task, packed),
    )
    return TrainingData(corpus, task, packed, corpus_fingerprint(corpus), other, notes)


def task_of(recipe: Recipe, corpus: Corpus) -> Task:
    """The task of a recipe, which has clips to train with and to validate.

    Raises:
        DataError: the corpus lacks what the protocol needs, or a word has no training clip.
    """
    task = make_task(recipe.data.protocol, corpus)
    if recipe.data.clip_s:
        task = replace(task, clip_s=recipe.data.clip_s)
    elif recipe.data.after_words_s:
        task = replace(task, clip_s=_extended(task, recipe))
    # An empty split should be reported before minutes of decoding.
    labels = {name: {example.label for example in task.splits[name]} for name in task.splits}
    task.split("training"), task.split("validation")
    for word in task.labels:
        if word not in NOT_WORDS and word not in labels["training"]:
            splits = " and ".join(name for name, found in labels.items() if word in found)
            why = f": all of its recordings are for {splits}" if splits else ""
            raise DataError(
                f"{word!r} has no training clip{why} ({SPLIT_RULES[corpus.split_by]}); each word "
                "needs at least one"
            )
    return task


def _extended(task: Task, recipe: Recipe) -> float:
    """A task's clip length, with what its recordings lack of `after_words_s` after their words."""
    rate, after_s = recipe.features.sample_rate, recipe.data.after_words_s
    paths = [e.path for e in task.split("training") if e.path and e.label not in NOT_WORDS]
    count = min(len(paths), _MEASURED)

    def rest_s(path: Path) -> float:
        samples = read(path, rate, recipe.data.channel or None)
        return len(samples) / rate - word_bounds_s(samples, rate)[1]

    rests_s = in_threads(rest_s, [paths[number * len(paths) // count] for number in range(count)])
    missing_s = max(0.0, after_s - float(np.median(rests_s)))
    return round(task.clip_s + missing_s, 1)


def _split_notes(task: Task, corpus: Corpus) -> Iterator[str]:
    """What validation does not show."""
    if corpus.split_by == "file" and not corpus.guessed_speakers:
        yield SPLIT_RULES["file"]
    if corpus.split_by == "speaker":
        yield from _few_speakers(corpus)
    if task.protocol == "folder" and (unheard := unheard_speakers(corpus)):
        others = [c for c in corpus.clips if c.word == UNKNOWN and c.speaker in unheard]
        if others:
            names = ", ".join(sorted({clip.speaker for clip in others}))
            yield (
                f"{counted(len(others), 'recording')} of other speech not trained on: the words of "
                f"{names} validate or test"
            )
    validated = {example.label for example in task.split("validation")}
    if lacking := [word for word in task.labels if word not in (*NOT_WORDS, *validated)]:
        yield f"no clip for validation: {', '.join(lacking)}"


def _few_speakers(corpus: Corpus) -> Iterator[str]:
    """Whose words train, validate and test, if it is a handful of people."""
    names: dict[str, set[str]] = {split: set() for split in SPLITS}
    for clip in corpus.clips:
        if clip.speaker and not clip.word.startswith("_") and not is_made(clip.speaker):
            names[clip.split].add(clip.speaker)
    if sum(map(len, names.values())) <= _FEW_SPEAKERS and all(names.values()):
        training, validation, testing = (", ".join(sorted(names[split])) for split in SPLITS)
        yield (
            f"training on {training}, validating on {validation}, testing on {testing}; a manifest "
            "or split folders change this"
        )


def _silent_words(task: Task, packed: PackedAudio) -> Iterator[str]:
    """A line for each word without a sound in any recording to train with."""
    recordings: dict[str, list[Path]] = defaultdict(list)
    for example in task.split("training"):
        if example.path and example.label not in NOT_WORDS:
            recordings[example.label].append(example.path)

    def has_sound(path: Path) -> bool:
        peak = np.abs(packed.samples(path).astype(np.int32)).max(initial=0)
        return bool(peak >= SILENT_PEAK * FULL_SCALE)

    for word, paths in recordings.items():
        if not any(map(has_sound, paths)):
            yield f"{word}: no sound in its {counted(len(paths), 'training recording')}"


def _cut_recordings(task: Task, packed: PackedAudio) -> Iterator[str]:
    """A line if recordings hold more speech than fits into a clip."""
    if task.protocol != "folder":
        return
    longest = round((task.clip_s + _NEGLIGIBLE_S) * packed.rate)
    paths = {e.path for e in task.split("training") if e.path and e.label not in NOT_WORDS}
    spans_s = []
    for path in paths:
        samples = packed.samples(path)
        if len(samples) > longest:
            start_s, end_s = word_bounds_s(samples, packed.rate)
            spans_s.append(end_s - start_s)
    cut = [span_s for span_s in spans_s if span_s > task.clip_s + _NEGLIGIBLE_S]
    if cut:
        yield (
            f"{len(cut)} of {len(paths)} recordings are longer than a clip: they hold up to "
            f"{max(cut):.1f} s of speech, and are cut to {task.clip_s:g} s; "
            f"--set data.clip_s={min(10.0, max(cut) + 0.5):.1f} keeps it all"
        )


# Classes.


def class_ids(examples: tuple[Example, ...], model: SpeechGRU) -> list[int]:
    """The class of each example; an unknown word may have its own."""
    ids = {name: i for i, name in enumerate((*model.labels, *model.unknown_words))}
    return [
        ids[example.label] if example.label != UNKNOWN else ids.get(example.word, ids[UNKNOWN])
        for example in examples
    ]


def label_ids(classes: Tensor, model: SpeechGRU) -> Tensor:
    """The label of each class; that of an unknown word is `_unknown_`."""
    if not model.unknown_words:
        return classes
    unknown = model.vocabulary.id(UNKNOWN)
    return torch.where(classes < len(model.labels), classes, unknown)


def unknown_words(task: Task) -> tuple[str, ...]:
    """The words that are `_unknown_` in a task's training clips."""
    words = {e.word for e in task.split("training") if e.label == UNKNOWN}
    return tuple(sorted(words - {UNKNOWN} - set(task.labels)))


def has_anagram(word: str, labels: tuple[str, ...]) -> bool:
    """Whether another label has the same letters: scrambled, "no" may sound like "on"."""
    letters = sorted(word)
    return any(label != word and sorted(label) == letters for label in labels)


# Sampling.


def sampling_weights(
    examples: tuple[Example, ...], labels: tuple[str, ...], config: SamplingConfig
) -> NDArray[np.float64]:
    """The probability with which each example is drawn: (N,), sum 1.

    Every word is drawn equally often, however many clips it has; `_unknown_` and `_silence_` as
    configured; within `_unknown_`, a word in proportion to the square root of its clips. Each
    reviewed false alarm is drawn a tenth as often as a word, all together at most as often as
    `_unknown_`, which they add to.

    Raises:
        DataError: a label has no training clip.
    """
    keys = [(example.label, _ALARM if is_alarm(example) else example.word) for example in examples]
    counts = Counter(keys)
    alarms = counts.pop((UNKNOWN, _ALARM), 0)
    shares: dict[tuple[str, str], float] = {}
    for label in labels:
        roots = {key: count**0.5 for key, count in counts.items() if key[0] == label}
        if not roots:
            if label in NOT_WORDS:
                continue
            raise DataError(f"{label!r} has no training clip; each word needs at least one")
        weight = {UNKNOWN: config.unknown_weight, SILENCE: config.silence_weight}.get(label, 1.0)
        shares |= {key: weight * root / sum(roots.values()) for key, root in roots.items()}
    if alarms:
        shares[UNKNOWN, _ALARM] = min(_ALARM_WEIGHT * alarms, config.unknown_weight)
        counts[UNKNOWN, _ALARM] = alarms
    weights = np.array([shares[key] / counts[key] for key in keys])
    return weights / weights.sum()


def is_alarm(example: Example) -> bool:
    """Whether this is what a model took for a word, as `review` filed it."""
    return example.path is not None and is_false_alarm(example.path.as_posix())


class ClipSampler:
    """Draws clips by weight, with replacement; this process's share of every batch.

    It is on the CPU, with its own generator, so that the next clips are known there before the
    device needs them.
    """

    def __init__(self, weights: NDArray[np.float64], generator: RowGenerator) -> None:
        self.cumulative = torch.from_numpy(np.cumsum(weights))
        self.generator = generator

    def next(self, count: int) -> Tensor:
        """Indices of the next `count` clips, (count,)."""
        draw = partial(torch.rand, dtype=torch.double)
        points = random_rows(draw, (count,), self.generator, _CPU) * self.cumulative[-1]
        indices = torch.searchsorted(self.cumulative, points, right=True)
        return indices.clamp_(max=len(self.cumulative) - 1)

    def peek(self, count: int) -> Tensor:
        """What `next` will return."""
        state = self.generator.get_state()
        indices = self.next(count)
        self.generator.set_state(state)
        return indices
