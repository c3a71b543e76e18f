"""Writes synthetic takes of words, and of similar words, into a corpus of word folders."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from speechgru.audio.pcm import to_packed, wav_header
from speechgru.audio.samples import SAMPLE_RATE, Samples
from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.corpora.own_recordings import checked_name
from speechgru.corpora.speaker_names import MADE
from speechgru.corpora.synthetic.engine import Delivery, Engine
from speechgru.corpora.synthetic.similar import similar_words
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.labels import UNKNOWN

#: Takes of one similar word, by different voices.
_TAKES_EACH = 4
_SPEED, _PITCH = (0.8, 1.25), (0.85, 1.15)
_PEAK = (0.25, 0.8)
#: What is kept of the silence before and after, as `record` does.
_MARGIN_S = 0.15
#: Quieter than this share of the peak is silence.
_SILENT = 0.02


@dataclass
class Synthesized:
    """What was written; `similar` has the similar words of each word."""

    engine: str
    root: Path
    written: list[Path] = field(default_factory=list)
    existing: int = 0
    voices: set[str] = field(default_factory=set)
    similar: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "engine": self.engine,
            "out": str(self.root),
            "written": [str(path) for path in self.written],
            "existing": self.existing,
            "voices": sorted(self.voices),
            "similar": self.similar,
        }


def synthesize(
    root: Path,
    words: Sequence[str],
    takes: int,
    engine: Engine,
    similar: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Synthesized:
    """Write `takes` takes of each word as `root/WORD/made-VOICE_N.wav`, at 16 kHz.

    Each take has another voice as long as there are any, the same for every word, and its own
    speed, pitch and level. As many takes of similar words go into `root/_unknown_/`. The same
    arguments give the same takes, with an engine that does; those that exist are kept.

    Raises:
        UsageError: a word cannot be a file name.
        SpeechGRUError: the engine fails, or a file cannot be written.
    """
    words = [checked_name(word, "WORD") for word in dict.fromkeys(words)]
    done = Synthesized(engine.name, root)
    plan: list[tuple[str, str, int, str]] = []  # folder, text, number, what follows the speaker
    for word in words:
        plan += [(word, word, number, str(number)) for number in range(1, takes + 1)]
    if similar:
        for word in words:
            count = -(-takes // _TAKES_EACH)
            texts = similar_words(word, count, engine.phonemes, set(words) - {word}, seed)
            done.similar[word] = texts
            numbers = range(1, takes + 1) if texts else ()
            named = [(n, texts[(n - 1) % len(texts)]) for n in numbers]
            plan += [(UNKNOWN, text, n, f"{_file_name(text)}_{n}") for n, text in named]
    voices = _shuffled(engine.voices(), seed)
    for place, (folder, text, number, ending) in enumerate(plan):
        rng = np.random.default_rng((seed, crc32(f"{folder}/{text}".encode()), number))
        voice = voices[(number - 1) % len(voices)]
        path = root / folder / f"{MADE}{_file_name(f'{engine.name}-{voice}')}_{ending}.wav"
        done.voices.add(voice)
        if path.exists():
            done.existing += 1
        else:
            _write(path, _take(engine, text, voice, rng))
            done.written.append(path)
        if progress is not None:
            progress(place + 1, len(plan))
    return done


def foreign_words(words: Sequence[str], language: str) -> list[str]:
    """The words that hardly are of this language: those with accents, if it is English.

    Raises:
        UsageError: a word has letters that English voices would spell, as they cannot read them.
    """
    if language.partition("-")[0] != "en":
        return []
    for word in words:
        if any(c.isalpha() and not unicodedata.name(c, "").startswith("LATIN") for c in word):
            raise UsageError(
                f"WORD {word}: an English voice cannot read it; --language CODE names its language"
            )
    return [word for word in words if not word.isascii()]


def _take(engine: Engine, text: str, voice: str, rng: np.random.Generator) -> Samples:
    """A text with a margin of silence, (S,)."""
    delivery = Delivery(float(rng.uniform(*_SPEED)), float(rng.uniform(*_PITCH)))
    samples = engine.speak(text, voice, delivery)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        raise SpeechGRUError(f"{engine.name}, voice {voice}: says nothing for {text!r:.60}")
    loud = np.flatnonzero(np.abs(samples) > _SILENT * peak)
    margin = np.zeros(round(_MARGIN_S * SAMPLE_RATE), np.float32)
    word = samples[loud[0] : loud[-1] + 1] * np.float32(rng.uniform(*_PEAK) / peak)
    return np.concatenate([margin, word, margin])


def _write(path: Path, samples: Samples) -> None:
    content = to_packed(samples).tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechGRUError(f"{path.parent}: {error.strerror or error}") from error
    write_atomic(path, wav_header(SAMPLE_RATE, len(content)) + content)


def _shuffled(voices: Sequence[str], seed: int) -> list[str]:
    """A long list begins with voices of all kinds."""
    return [voices[i] for i in np.random.default_rng(seed).permutation(len(voices))]


def _file_name(text: str) -> str:
    """A text in lower-case letters, digits and hyphens; an underscore ends a speaker's name."""
    return re.sub(r"[^\w]+|_", "-", text.lower()).strip("-")
