"""A recognizer run on a whole stream, and its events scored against the stream's truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import blocks, probe
from speechgru.audio.pcm import FULL_SCALE, Packed
from speechgru.audio.samples import Samples, StreamResampler
from speechgru.common.progress import Progress
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.streams import StreamPlan, make_stream
from speechgru.corpora.truth import Truth, read_truth
from speechgru.decoding.ctc import CTCDecoder
from speechgru.decoding.detector import Detector
from speechgru.decoding.events import Event, PosteriorRecorder
from speechgru.decoding.factory import DecoderConfig, ModelInfo, head_of, make_decoder
from speechgru.decoding.grammar import Grammar
from speechgru.errors import DataError
from speechgru.evaluation.events import EventReport, score_events
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import Recognizer
from speechgru.recognition.state_policy import StatePolicy

BLOCK_S = 10.0
#: Steps per call when log-posteriors are decoded again: few enough for a processor core's cache.
REPLAY_STEPS = 8_000


class Sound(Protocol):
    """A stream that can be read more than once: blocks of (S,) float32 at the model's rate."""

    @property
    def duration_s(self) -> float:
        """Seconds, as far as known in advance."""
        ...

    def __iter__(self) -> Iterator[Samples]:
        """From the start."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySound:
    """Samples in memory, (S,): float32, or 16-bit integers."""

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
    """A recording of any rate, decoded and resampled to `rate` as it is read."""

    path: Path
    rate: int
    channel: int | None = None

    @property
    def duration_s(self) -> float:
        """Seconds, from its header."""
        return probe(self.path).duration_s

    def __iter__(self) -> Iterator[Samples]:
        """Ten seconds at a time; raises DataError as `audio.blocks`."""
        resampler: StreamResampler | None = None
        for frames, rate in blocks(self.path, BLOCK_S):
            resampler = resampler or StreamResampler(rate, self.rate, str(self.path), self.channel)
            yield resampler.push(frames)
        if resampler is not None:
            yield resampler.flush()


@dataclass(frozen=True, eq=False)
class StreamOutput:
    """A recognizer's events on a stream, and its log-posteriors (T, V) of one head, if kept.

    `grammar` is what the decoder was limited to.
    """

    model: ModelInfo
    duration_s: float
    log_posteriors: NDArray[np.floating] | None
    events: tuple[Event, ...]
    grammar: Grammar | None = None

    def replay(self, config: DecoderConfig) -> list[Event]:
        """The events that another decoder for the same head finds in the log-posteriors."""
        assert self.log_posteriors is not None
        decoder = _event_decoder(self.model, config, self.grammar)
        events = []
        for first in range(0, len(self.log_posteriors), REPLAY_STEPS):
            events += decoder.push(self.log_posteriors[first : first + REPLAY_STEPS])
        return events + decoder.flush()


def recognize_stream(
    backend: Backend,
    sound: Sound,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
    keep_log_posteriors: bool = True,
    grammar: Grammar | None = None,
) -> StreamOutput:
    """Push a stream through the recognizer that `listen` runs. `progress` is in seconds.

    Unless log-posteriors are kept, for replays, a day needs no more memory than a minute.

    Raises:
        DataError: samples, or the model's output, are not finite.
        UsageError: a threshold is for a word that the model does not have.
    """
    decoder = _event_decoder(backend.info, config, grammar)
    recorder = PosteriorRecorder(decoder) if keep_log_posteriors else None
    recognizer = Recognizer(backend, recorder or decoder, policy, head_of(config))
    events: list[Event] = []
    samples, total_s = 0, round(sound.duration_s)
    for block in sound:
        events += recognizer.push(block)
        samples += len(block)
        if progress is not None:
            progress(min(total_s, samples // backend.sample_rate), total_s)
    events += recognizer.flush()
    duration_s = samples / backend.sample_rate
    log_posteriors = recorder.log_posteriors if recorder else None
    return StreamOutput(backend.info, duration_s, log_posteriors, tuple(events), grammar)


def _event_decoder(
    model: ModelInfo, config: DecoderConfig, grammar: Grammar | None = None
) -> Detector | CTCDecoder:
    """A decoder that is asked for events only."""
    decoder = make_decoder(model, config, grammar)
    if isinstance(decoder, Detector):
        decoder.notes_verdicts = False
    return decoder


@dataclass(frozen=True)
class StreamCase:
    """A sound, what is spoken in it, and for reports where it comes from."""

    sound: Sound
    truth: Truth
    source: dict[str, Any]

    @property
    def title(self) -> str:
        """A short description."""
        if "audio" in self.source:
            return str(self.source["audio"])
        return "{protocol}, {split} split, {minutes:g} minutes, seed {seed}".format(**self.source)


@dataclass(frozen=True)
class StreamReport:
    """Events against the truth, with the decoder and state policy that gave them."""

    case: StreamCase
    config: DecoderConfig
    policy: StatePolicy
    output: StreamOutput
    events: EventReport

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.events.as_dict() | {
            "stream": self.case.source,
            "decoder": self.config.model_dump(),
            "state_policy": self.policy.model_dump(),
        }


def split_case(audio: SplitAudio, plan: StreamPlan) -> StreamCase:
    """The seeded stream of a split, in memory.

    Raises:
        DataError: the split has no clip of a word, or the stream is too short to hold one.
    """
    stream = make_stream(audio, plan)
    if not stream.truth.words:
        raise DataError(
            f"a stream of {plan.minutes:g} minutes holds no clip; a longer one is needed"
        )
    return StreamCase(ArraySound(stream.samples, stream.rate), stream.truth, stream.truth.made)


def file_case(
    audio: Path,
    truth: Path | None,
    rate: int,
    labels: tuple[str, ...],
    channel: int | None = None,
) -> StreamCase:
    """A recording, or one channel of it, and its truth, by default the .json file next to it.

    Raises:
        DataError: one of them cannot be read, or the truth belongs to another recording.
    """
    sound = FileSound(audio, rate, channel)
    truth_path = truth or audio.with_suffix(".json")
    duration_s = sound.duration_s
    read = read_truth(truth_path)
    read.check_fits(duration_s, labels, str(truth_path))
    return StreamCase(sound, read, {"audio": audio.name, "truth": truth_path.name})


def evaluate_stream(
    backend: Backend,
    case: StreamCase,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
    keep_log_posteriors: bool = True,
    grammar: Grammar | None = None,
) -> StreamReport:
    """Run a recognizer on a stream and score its events.

    Raises:
        DataError, UsageError: as `recognize_stream`.
    """
    output = recognize_stream(
        backend, case.sound, config, policy, progress, keep_log_posteriors, grammar
    )
    events = score_events(case.truth, output.events, output.duration_s)
    return StreamReport(case, config, policy, output, events)
