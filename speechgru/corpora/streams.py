"""Streams to score: the clips of a split in background noise, and the truth about them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechgru.audio.pcm import FULL_SCALE, Packed, to_packed
from speechgru.common.files import atomic_path
from speechgru.common.progress import Progress
from speechgru.corpora.background import NOISE_DB, Background
from speechgru.corpora.corpus import SPLITS, Example
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.truth import SpokenWord, Truth, write_truth
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.labels import NOT_WORDS, UNKNOWN

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Background alone at the end, in which the last word can still be recognized.
TAIL_S = 1.0
#: Words more than this above the background would be clipped: the whole stream is quieter then.
_LOUDEST_DB = 30.0
_FADE_S = 0.02
FORMATS = {".flac": "FLAC", ".wav": "WAV"}


@dataclass(frozen=True)
class StreamPlan:
    """How a stream is made; the same plan and clips give the same stream.

    Args:
        snr_db: range of how much louder than the background a word is, drawn for each.
        gap_s: range of the background alone between two clips, drawn for each.
        unknown: share of clips that are unknown words, if the task has any.

    Raises:
        UsageError: a value out of range.
    """

    minutes: float = 20.0
    seed: int = 0
    snr_db: tuple[float, float] = (5.0, 20.0)
    gap_s: tuple[float, float] = (0.2, 2.0)
    unknown: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 60 * 24 * 7:
            raise UsageError(f"minutes {self.minutes:g}: above 0 and up to a week is needed")
        check_snr(self.snr_db)
        if not 0 <= self.gap_s[0] <= self.gap_s[1] <= 600:
            raise UsageError(
                f"gap {self.gap_s[0]:g}:{self.gap_s[1]:g}: LOW:HIGH from 0 to 600 s is needed"
            )
        if not 0 <= self.unknown < 1:
            raise UsageError(f"unknown {self.unknown:g}: a share from 0 to below 1 is needed")


def check_snr(snr_db: tuple[float, float]) -> None:
    """Raise a `UsageError` if a range of levels above the background is out of range."""
    if not -20 <= snr_db[0] <= snr_db[1] <= 60:
        raise UsageError(f"snr {snr_db[0]:g}:{snr_db[1]:g}: LOW:HIGH from -20 to 60 dB is needed")


@dataclass(frozen=True)
class Piece:
    """A stretch of a stream, (S,) 16 bits, and the words in it."""

    samples: Packed
    words: tuple[SpokenWord, ...]


@dataclass(frozen=True)
class Stream:
    """A stream in memory: (S,) 16 bits."""

    samples: Packed
    rate: int
    truth: Truth


def stream_pieces(audio: SplitAudio, plan: StreamPlan) -> Iterator[Piece]:
    """A stream piece by piece, each a gap and the clip after it; the last one is background.

    Words are drawn evenly; a clip is repeated only after all others of its label.

    Raises:
        DataError: the split has no clip of a word, or the packed audio lacks a recording.
    """
    rng = np.random.default_rng([plan.seed, SPLITS.index(audio.split)])
    clips = endless_clips(audio, rng)
    background = Background(audio.packed, audio.corpus.noises, audio.split, rng.spawn(1)[0])
    words = [label for label in clips if label != UNKNOWN]
    rate = audio.packed.rate
    total = round(plan.minutes * 60 * rate)
    gain = headroom(plan.snr_db)
    position = 0
    while True:
        is_unknown = UNKNOWN in clips and rng.random() < plan.unknown
        label = UNKNOWN if is_unknown else words[rng.integers(len(words))]
        clip, example = next_clip(audio, clips[label])
        gap = round(rng.uniform(*plan.gap_s) * rate)
        snr_db = rng.uniform(*plan.snr_db)
        if position + gap + len(clip) + round(TAIL_S * rate) > total:
            yield Piece(to_packed(gain * background.take(total - position)), ())
            return
        start_s, end_s = word_bounds_s(clip, rate)
        samples = background.take(gap + len(clip))
        samples[gap:] += at_snr(clip, start_s, end_s, snr_db, rate)
        offset_s = (position + gap) / rate
        word = SpokenWord(
            word=label,
            start=round(offset_s + start_s, 4),
            end=round(offset_s + end_s, 4),
            said=example.word,
            file=clip_name(audio, example),
            snr_db=round(snr_db, 1),
        )
        yield Piece(to_packed(gain * samples), (word,))
        position += gap + len(clip)


def make_stream(audio: SplitAudio, plan: StreamPlan) -> Stream:
    """A stream in memory, with its truth.

    Raises:
        DataError: as `stream_pieces`.
    """
    pieces = stream_pieces(audio, plan)
    return stream_of(pieces, audio.packed.rate, description_of(audio, plan))


def stream_of(pieces: Iterable[Piece], rate: int, made: dict[str, Any]) -> Stream:
    """Pieces as a stream in memory; `made` says in its truth how they were made."""
    found = list(pieces)
    samples = np.concatenate([piece.samples for piece in found])
    words = tuple(word for piece in found for word in piece.words)
    return Stream(samples, rate, Truth(duration_s=len(samples) / rate, made=made, words=words))


def check_name(path: Path) -> None:
    """Raise UsageError for the name of a file that no stream is written to."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a stream is written as {' or '.join(FORMATS)}")


def truth_of(path: Path) -> Path:
    """Where the truth of a stream is."""
    return path.with_suffix(".json")


def write_stream(
    path: Path,
    audio: SplitAudio,
    plan: StreamPlan,
    progress: Progress | None = None,
) -> Truth:
    """Write a stream, .flac or .wav, and its truth as .json beside it; both, or neither.

    Raises:
        UsageError: the name has another suffix.
        DataError: as `stream_pieces`.
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    pieces, made = stream_pieces(audio, plan), description_of(audio, plan)
    return write_pieces(path, pieces, audio.packed.rate, plan.minutes, made, progress)


def write_pieces(
    path: Path,
    pieces: Iterable[Piece],
    rate: int,
    minutes: float,
    made: dict[str, Any],
    progress: Progress | None = None,
) -> Truth:
    """Write pieces as `write_stream` does; `made` says in the truth how they were made.

    Raises:
        UsageError: the name has another suffix.
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    check_name(path)
    kind, total, done = FORMATS[path.suffix.lower()], round(minutes * 60 * rate), 0
    words: list[SpokenWord] = []
    with atomic_path(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", rate, 1, "PCM_16", format=kind) as file:
                for piece in pieces:
                    file.write(piece.samples)
                    words += piece.words
                    done += len(piece.samples)
                    if progress is not None:
                        progress(done, total)
        except (soundfile.SoundFileError, AssertionError) as error:
            # soundfile asserts that all samples were written, which fails on a full disk.
            raise SpeechGRUError(f"{path}: cannot be written; is the disk full?") from error
        truth = Truth(duration_s=done / rate, made=made, words=tuple(words))
        write_truth(truth, truth_of(path))
    return truth


def description_of(audio: SplitAudio, plan: "DataclassInstance") -> dict[str, Any]:
    """How a stream or a conversation was made, by its plan, for JSON."""
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(plan).items()
    }
    return {"protocol": audio.task.protocol, "split": audio.split, **settings}


def next_clip(audio: SplitAudio, clips: Iterator[Example]) -> tuple[NDArray[np.float64], Example]:
    """The samples of the next clip, (S,), and the clip."""
    example = next(clips)
    assert example.path is not None
    samples = audio.packed.samples(example.path)
    if example.start_s is not None:  # a piece of a long recording
        clip_samples = round(audio.task.clip_s * audio.packed.rate)
        ((first, end),) = audio.packed.cuts([example], clip_samples)
        samples = audio.packed.buffer[first:end]
    return samples / FULL_SCALE, example


def clip_name(audio: SplitAudio, example: Example) -> str:
    """Its file, relative to the corpus."""
    assert example.path is not None
    return Path(os.path.relpath(example.path, audio.corpus.root)).as_posix()


def endless_clips(audio: SplitAudio, rng: np.random.Generator) -> dict[str, Iterator[Example]]:
    """The clips of each word, and of unknown speech, shuffled and repeated without end."""
    clips: dict[str, list[Example]] = {}
    for example in audio.task.split(audio.split):
        speech = example.label == UNKNOWN or example.label not in NOT_WORDS
        if speech and example.path is not None:
            clips.setdefault(example.label, []).append(example)
    if not clips.keys() - {UNKNOWN}:
        raise DataError(f"{audio.task.protocol}: the {audio.split} split has no clip of a word")
    # Each label has its own generator: how often one is drawn from changes no other.
    seeds = rng.spawn(len(clips))
    return {
        label: _reshuffled(examples, seed)
        for (label, examples), seed in zip(sorted(clips.items()), seeds, strict=True)
    }


def _reshuffled(examples: list[Example], rng: np.random.Generator) -> Iterator[Example]:
    while True:
        for i in rng.permutation(len(examples)):
            yield examples[i]


def headroom(snr_db: tuple[float, float]) -> float:
    """The factor for a stream with this range of SNR that keeps its loudest words from clipping."""
    return float(10 ** (min(0.0, _LOUDEST_DB - snr_db[1]) / 20))


def at_snr(
    clip: NDArray[np.float64], start_s: float, end_s: float, snr_db: float, rate: int
) -> NDArray[np.float64]:
    """A clip scaled so that its word has this SNR over `NOISE_DB`, edges faded: (S,) -> (S,)."""
    word = clip[round(start_s * rate) : round(end_s * rate)]
    level = np.sqrt(np.square(word).mean())
    gain = 10 ** ((NOISE_DB + snr_db) / 20) / level if level > 0 else 1.0
    fade = np.minimum(1.0, np.arange(1, len(clip) + 1) / (_FADE_S * rate))
    return clip * gain * fade * fade[::-1]
