"""A recognizer on a whole stream: its events, its log-posteriors, and other detectors on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import blocks, probe
from speechgru.audio.pcm import FULL_SCALE, Packed
from speechgru.audio.samples import Samples, StreamResampler
from speechgru.common.progress import Progress
from speechgru.decoding.events import Event, PosteriorRecorder
from speechgru.decoding.factory import DecoderConfig, ModelInfo, head_of, make_decoder
from speechgru.decoding.grammar import Grammar
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import Recognizer
from speechgru.recognition.state_policy import StatePolicy

BLOCK_S = 10.0
#: Steps that are replayed at once: few enough for a processor core's cache.
REPLAY_STEPS = 8_000


@dataclass(frozen=True, eq=False)
class Hearing:
    """A stream as it was heard: events, and a head's log-posteriors (T, V) if they were kept."""

    model: ModelInfo
    duration_s: float
    log_posteriors: NDArray[np.floating] | None
    events: tuple[Event, ...]

    def replay(self, config: DecoderConfig) -> list[Event]:
        """The events that another decoder of the same head finds in the same log-posteriors."""
        assert self.log_posteriors is not None
        decoder = make_decoder(self.model, config)
        events = []
        for first in range(0, len(self.log_posteriors), REPLAY_STEPS):
            events += decoder.push(self.log_posteriors[first : first + REPLAY_STEPS])
        return events + decoder.flush()


class Sound(Protocol):
    """A stream that can be heard more than once: blocks of (S,) float32 at the model's rate."""

    @property
    def duration_s(self) -> float:
        """Seconds, as far as it is known beforehand."""
        ...

    def __iter__(self) -> Iterator[Samples]:
        """From the start."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySound:
    """Samples in memory, (S,): float32, or 16 bits."""

    samples: Samples | Packed
    rate: int

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.samples) / self.rate

    def __iter__(self) -> Iterator[Samples]:
        """Ten seconds at a time."""
        size = round(BLOCK_S * self.rate)
        for first in range(0, len(self.samples), size):
            block = self.samples[first : first + size]
            yield block.astype(np.float32) / (FULL_SCALE if block.dtype == np.int16 else 1)


@dataclass(frozen=True)
class FileSound:
    """A recording of any rate, decoded and resampled to `rate` while it is heard."""

    path: Path
    rate: int

    @property
    def duration_s(self) -> float:
        """Seconds, by its header."""
        return probe(self.path).duration_s

    def __iter__(self) -> Iterator[Samples]:
        """Ten seconds at a time; raises DataError as `audio.blocks`."""
        resampler: StreamResampler | None = None
        for frames, rate in blocks(self.path, BLOCK_S):
            resampler = resampler or StreamResampler(rate, self.rate, str(self.path))
            yield resampler.push(frames)
        if resampler is not None:
            yield resampler.flush()


def hear(
    backend: Backend,
    sound: Sound,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
    keep: bool = True,
    grammar: Grammar | None = None,
) -> Hearing:
    """Push a stream through a recognizer: the one that `listen` runs. `progress` is in seconds.

    Unless log-posteriors are to `keep`, for replays, a day needs no more memory than a minute.

    Raises:
        DataError: the sound's, or the model's answer is not a number.
        UsageError: a threshold is for a word that the model does not have.
    """
    decoder = make_decoder(backend.info, config, grammar)
    tape = PosteriorRecorder(decoder) if keep else None
    recognizer = Recognizer(backend, tape or decoder, policy, head_of(config))
    events: list[Event] = []
    samples, total_s = 0, round(sound.duration_s)
    for block in sound:
        events += recognizer.push(block)
        samples += len(block)
        if progress is not None:
            progress(min(total_s, samples // backend.sample_rate), total_s)
    events += recognizer.flush()
    duration_s = samples / backend.sample_rate
    heard = tape.log_posteriors if tape else None
    return Hearing(backend.info, duration_s, heard, tuple(events))
