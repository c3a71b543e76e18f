"""A model on a stream with a truth: what its detector makes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechgru.common.progress import Progress
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.streams import StreamPlan, make_stream
from speechgru.corpora.truth import Truth, read_truth
from speechgru.decoding.factory import DecoderConfig
from speechgru.decoding.grammar import Grammar
from speechgru.errors import DataError
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.replay import ArraySound, FileSound, Hearing, Sound, hear
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import StatePolicy


@dataclass(frozen=True)
class StreamCase:
    """A sound, what is said in it, and for reports what it is."""

    sound: Sound
    truth: Truth
    source: dict[str, Any]

    @property
    def title(self) -> str:
        """In a few words."""
        if "audio" in self.source:
            return str(self.source["audio"])
        return "{protocol}, {split} split, {minutes:g} minutes, seed {seed}".format(**self.source)


@dataclass(frozen=True)
class StreamReport:
    """Events against truth, by a detector and a state policy."""

    case: StreamCase
    config: DecoderConfig
    policy: StatePolicy
    hearing: Hearing
    events: EventReport

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        return self.events.as_dict() | {
            "stream": self.case.source,
            "decoder": self.config.model_dump(),
            "state_policy": self.policy.model_dump(),
        }


def case_of_split(audio: SplitAudio, plan: StreamPlan) -> StreamCase:
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


def case_of_files(
    audio: Path, truth: Path | None, rate: int, labels: tuple[str, ...]
) -> StreamCase:
    """A recording and its truth; by default the .json beside it.

    Raises:
        DataError: one of them cannot be read, or the truth is not of this recording.
    """
    sound = FileSound(audio, rate)
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
    keep: bool = True,
    grammar: Grammar | None = None,
) -> StreamReport:
    """Hear a stream and score its events; log-posteriors are kept as `hear` says.

    Raises:
        DataError, UsageError: as `hear`.
    """
    heard = hear(backend, case.sound, config, policy, progress, keep, grammar)
    scored = score_events(case.truth, heard.events, heard.duration_s)
    return StreamReport(case, config, policy, heard, scored)
