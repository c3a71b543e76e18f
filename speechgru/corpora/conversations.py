"""Conversations to score: commands after stretches of talk and pauses, in noise, and the truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import read
from speechgru.audio.pcm import FULL_SCALE, Packed, to_packed
from speechgru.common.progress import Progress
from speechgru.corpora.background import NOISE_DB, Background
from speechgru.corpora.corpus import SPLITS
from speechgru.corpora.fingerprint import recordings_fingerprint
from speechgru.corpora.listing import Skipped, list_recordings
from speechgru.corpora.other_sounds import other_sounds
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.streams import (
    Piece,
    Stream,
    at_snr,
    check_snr,
    clip_name,
    description_of,
    endless_clips,
    headroom,
    next_clip,
    stream_of,
    write_pieces,
)
from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import DataError, UsageError
from speechgru.labels import UNKNOWN

#: The name of the speech that ships with the package, in place of a folder of talk.
BUNDLED = "bundled"
#: Commands after each stretch of talk, or of quiet.
COMMANDS_PER_TURN = 3
#: Talk in the shortest, middle or longest third (on a logarithmic scale), or quiet (None), in turn.
_TURNS = (0, None, 1, 0, 2)
#: One first command in so many comes right after a sentence, so long after it.
_RIGHT_AFTER_EVERY, RIGHT_AFTER_S = 4, (0.05, 0.25)
#: Seconds of quiet in place of talk.
QUIET_S = (6.0, 30.0)
#: Seconds of background after the last command of a turn.
_TAIL_S = 2.0
#: Seconds between two sentences of a stretch.
_BREATH_S = (0.2, 0.7)
#: Recordings are cut at their quietest place within this range, into sentences.
_SENTENCE_S = (4.0, 12.0)
_FADE_S = 0.02


@dataclass(frozen=True)
class ConversationPlan:
    """How a conversation is made; the same plan, clips and talk give the same one.

    Args:
        snr_db: range of how much louder than the background a command or a stretch of talk is.
        pause_s: range of the pause before a command, drawn on a logarithmic scale.
        talk_s: range of the length of a stretch of talk, drawn on a logarithmic scale.

    Raises:
        UsageError: a value out of range.
    """

    minutes: float = 90.0
    seed: int = 0
    snr_db: tuple[float, float] = (5.0, 20.0)
    pause_s: tuple[float, float] = (0.3, 5.0)
    talk_s: tuple[float, float] = (5.0, 600.0)

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 60 * 24:
            raise UsageError(f"minutes {self.minutes:g}: above 0 and up to a day is needed")
        check_snr(self.snr_db)
        for name, (low, high), most in (
            ("pause", self.pause_s, 60.0),
            ("talk", self.talk_s, 3600.0),
        ):
            if not 0.1 <= low <= high <= most:
                raise UsageError(
                    f"{name} {low:g}:{high:g}: LOW:HIGH from 0.1 to {most:g} s is needed"
                )


class Talk:
    """Running speech: recordings, cut into sentences that are drawn without end.

    Args:
        description: what identifies it, for JSON.
        skipped: what lies among the recordings and is not used.

    Raises:
        DataError: a recording cannot be read, or none of them holds speech.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        rate: int,
        description: dict[str, Any],
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.rate, self.description, self.skipped = rate, description, skipped
        self.sentences = [cut for path in paths for cut in _sentences(read(path, rate), rate)]
        if not self.sentences:
            raise DataError(f"{description['name']}: holds no speech; talk is needed")
        #: Seconds of speech, without pauses.
        self.speech_s = sum(map(len, self.sentences)) / rate

    def stretches(self, rng: np.random.Generator) -> "Stretches":
        """Stretches of it in a random order."""
        return Stretches(self, rng)


class Stretches:
    """Draws stretches of talk; a sentence is repeated only after all others."""

    def __init__(self, talk: Talk, rng: np.random.Generator) -> None:
        self.talk, self.rng = talk, rng
        self._order: list[int] = []

    def next(self, samples: int) -> NDArray[np.float64]:
        """(samples,) that end with a sentence; the RMS of each sentence is 1."""
        parts: list[NDArray[np.float64]] = []
        total = 0
        while total < samples:
            self._order = self._order or self.rng.permutation(len(self.talk.sentences)).tolist()
            sentence = self.talk.sentences[self._order.pop()] / FULL_SCALE
            breath = np.zeros(round(self.rng.uniform(*_BREATH_S) * self.talk.rate))
            parts += [
                breath,
                _faded(sentence / np.sqrt(np.square(sentence).mean()), self.talk.rate),
            ]
            total += len(breath) + len(sentence)
        return np.concatenate(parts)[total - samples :]


def open_talk(name: str, rate: int, without: Sequence[str] = ()) -> Talk:
    """The talk in a folder or file; or, by the name "bundled", that which ships with the package.

    Of that only what chooses weights and decoders, and no utterance with one of the words
    `without`. What lies in a folder must not have such words in it, as they would be false alarms.

    Raises:
        DataError: there is no recording, or one cannot be read.
    """
    if name == BUNDLED:
        bundled = other_sounds().speech("validation", without)
        return Talk(bundled, rate, {"name": BUNDLED, "recordings": len(bundled)})
    root = Path(name).expanduser().absolute()
    paths, skipped = list_recordings(root) if root.is_dir() else ([root], [])
    if not paths:
        raise DataError(f"{name}: holds no recording; talk is needed")
    fingerprint = recordings_fingerprint(root, paths)
    described = {"name": root.name, "recordings": len(paths), "fingerprint": fingerprint}
    return Talk(paths, rate, described, skipped)


def conversation_pieces(audio: SplitAudio, talk: Talk, plan: ConversationPlan) -> Iterator[Piece]:
    """A conversation turn by turn: a stretch of talk or of quiet, and then three commands.

    In the truth a stretch of talk is one `_unknown_`. The last piece is background.

    Raises:
        DataError: the split has no clip of a word, or the packed audio lacks a recording.
    """
    rng = np.random.default_rng([plan.seed, SPLITS.index(audio.split)])
    clips = endless_clips(audio, rng)
    background = Background(audio.packed, audio.corpus.noises, audio.split, rng.spawn(1)[0])
    stretches = talk.stretches(rng.spawn(1)[0])
    words = [label for label in clips if label != UNKNOWN]
    rate, edges_s = audio.packed.rate, np.geomspace(*plan.talk_s, 4)
    position, total, gain = 0, round(plan.minutes * 60 * rate), headroom(plan.snr_db)
    commands_s = COMMANDS_PER_TURN * (plan.pause_s[1] + audio.task.clip_s) + _TAIL_S
    for number, third in enumerate(cycle(_TURNS)):
        range_s = QUIET_S if third is None else (edges_s[third], edges_s[third + 1])
        room = total - position - round(commands_s * rate)
        stretch = min(room, round(_log_uniform(rng, *range_s) * rate))
        if stretch < (QUIET_S if third is None else plan.talk_s)[0] * rate:
            break
        canvas = _Canvas(position, stretch, rate)
        if third is not None:
            snr_db = rng.uniform(*plan.snr_db)
            samples = stretches.next(stretch) * 10 ** ((NOISE_DB + snr_db) / 20)
            canvas.add_talk(samples, snr_db)
        for place in range(COMMANDS_PER_TURN):
            is_right_after = place == 0 and third is not None and not number % _RIGHT_AFTER_EVERY
            pause_s = (
                rng.uniform(*RIGHT_AFTER_S) if is_right_after else _log_uniform(rng, *plan.pause_s)
            )
            label = words[rng.integers(len(words))]
            clip, example = next_clip(audio, clips[label])
            file, snr_db = clip_name(audio, example), rng.uniform(*plan.snr_db)
            canvas.add_command(clip, label, pause_s, snr_db, file)
        length = canvas.end + round(_TAIL_S * rate)
        if position + length > total:  # clips that are longer than the task's
            break
        samples = background.take(length) + canvas.samples(length)
        yield Piece(to_packed(gain * samples), canvas.words)
        position += length
    yield Piece(to_packed(gain * background.take(total - position)), ())


class _Canvas:
    """The sounds of a turn that starts at a sample of the stream, without their background."""

    def __init__(self, position: int, stretch: int, rate: int) -> None:
        self.position, self.stretch, self.rate = position, stretch, rate
        #: Where the last sound ends; the next pause begins here.
        self.end = stretch
        self.sounds: list[tuple[int, NDArray[np.float64]]] = []
        self.words: tuple[SpokenWord, ...] = ()

    def add_talk(self, samples: NDArray[np.float64], snr_db: float) -> None:
        self.sounds.append((0, samples))
        self._add(UNKNOWN, 0, self.stretch, "talk", None, snr_db)

    def add_command(
        self, clip: NDArray[np.float64], label: str, pause_s: float, snr_db: float, file: str
    ) -> None:
        start_s, end_s = word_bounds_s(clip, self.rate)
        start = self.end + round(pause_s * self.rate)
        first, last = round(start_s * self.rate), round(end_s * self.rate)
        # What the clip has before its word must not reach back before the turn.
        cut = max(0, first - start)
        self.sounds.append(
            (start - first + cut, at_snr(clip, start_s, end_s, snr_db, self.rate)[cut:])
        )
        self.end = start + last - first
        self._add(label, start, self.end, label, file, snr_db)

    def _add(
        self, word: str, start: int, end: int, said: str, file: str | None, snr_db: float
    ) -> None:
        spoken = SpokenWord(
            word=word,
            start=round((self.position + start) / self.rate, 4),
            end=round((self.position + end) / self.rate, 4),
            said=said,
            file=file,
            snr_db=round(snr_db, 1),
        )
        self.words += (spoken,)

    def samples(self, length: int) -> NDArray[np.float64]:
        """All sounds together, (length,)."""
        canvas = np.zeros(length)
        for start, sound in self.sounds:
            part = sound[: length - start]
            canvas[start : start + len(part)] += part
        return canvas


def make_conversation(audio: SplitAudio, talk: Talk, plan: ConversationPlan) -> Stream:
    """A conversation in memory, with its truth.

    Raises:
        DataError: as `conversation_pieces`.
    """
    pieces = conversation_pieces(audio, talk, plan)
    return stream_of(pieces, audio.packed.rate, _description(audio, talk, plan))


def write_conversation(
    path: Path,
    audio: SplitAudio,
    talk: Talk,
    plan: ConversationPlan,
    progress: Progress | None = None,
) -> Truth:
    """Write a conversation and its truth, as `write_stream` does."""
    pieces = conversation_pieces(audio, talk, plan)
    made = _description(audio, talk, plan)
    return write_pieces(path, pieces, audio.packed.rate, plan.minutes, made, progress)


def _description(audio: SplitAudio, talk: Talk, plan: ConversationPlan) -> dict[str, Any]:
    of_talk = {"talk": talk.description, "talk_speech_s": round(talk.speech_s, 1)}
    return description_of(audio, plan) | of_talk


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _sentences(samples: NDArray[np.floating], rate: int) -> Iterator[Packed]:
    """A recording cut at its quietest places; each part without the silence around its speech."""
    frame = round(0.03 * rate)
    level = np.square(samples[: len(samples) // frame * frame]).reshape(-1, frame).mean(axis=1)
    least, most = (round(seconds * rate / frame) for seconds in _SENTENCE_S)
    first = 0
    while first < len(level):
        last = len(level)
        if last - first > most:
            last = first + least + int(level[first + least : first + most].argmin())
        part = samples[first * frame : last * frame]
        start_s, end_s = word_bounds_s(part, rate)
        speech = part[round(start_s * rate) : round(end_s * rate)]
        if np.any(to_packed(speech)):
            yield to_packed(speech)
        first = last


def _faded(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    fade = np.minimum(1.0, np.arange(1, len(samples) + 1) / (_FADE_S * rate))
    return samples * fade * fade[::-1]
