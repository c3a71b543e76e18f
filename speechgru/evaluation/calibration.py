"""Calibration: a threshold for each word, for at most so many false alarms per hour.

Every event in ambient audio is a false alarm. Of all thresholds with no more of them than allowed,
those with the fewest errors on a stream with a truth are chosen (words that are not matched, and
false alarms there, on unknown words if it has any). How much of other words a detector allows right
before a word without a pause, `most_unknown`, is chosen in the same way, or how much silence within
a word, `most_silence`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechgru.common.progress import CombinedProgress, Progress
from speechgru.corpora.corpus import Corpus
from speechgru.corpora.fingerprint import corpus_fingerprint
from speechgru.decoding.ctc import CTCConfig
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Event
from speechgru.decoding.factory import DecoderConfig, metadata_key
from speechgru.errors import GateError, UsageError
from speechgru.evaluation.ambient import (
    AmbientReport,
    AmbientSound,
    recognize_ambient,
    report_ambient,
)
from speechgru.evaluation.det import OperatingPoint, save_det_picture
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.streams import StreamCase, StreamOutput, recognize_stream
from speechgru.evaluation.thresholds import THRESHOLDS, ThresholdTable
from speechgru.evaluation.tuning import SPEECH_BEFORE
from speechgru.labels import SILENCE, UNKNOWN, Vocabulary
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import StatePolicy
from speechgru.version import __version__

#: Values of a detector's `most_unknown` and `most_silence` that are tried besides its own.
MOST_UNKNOWN = (0.3, 0.2, 0.1, 0.05)
MOST_SILENCE = (0.1, 0.03)
#: Totals of false alarms for which the trade-off is reported.
_TOTALS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class Outcome:
    """The result of thresholds: in ambient audio, and on the stream, if there is one."""

    thresholds: dict[str, float]
    ambient: AmbientReport
    stream: EventReport | None

    @property
    def point(self) -> OperatingPoint:
        """The point on a DET curve; needs a stream."""
        assert self.stream is not None
        return OperatingPoint(None, self.ambient.per_hour, self.stream.false_reject_rate)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        table: dict[str, Any] = {"thresholds": self.thresholds, "ambient": self.ambient.as_dict()}
        if self.stream is not None:
            table["stream"] = {
                "words": self.stream.n,
                "matched": len(self.stream.matched),
                "wrong": len(self.stream.wrong),
                "missed": self.stream.missed,
                "false_alarms": len(self.stream.false_alarms),
                "false_reject_rate": self.stream.false_reject_rate,
                "false_reject_rate_ci95": list(self.stream.false_reject_ci95),
            }
        return table


@dataclass(frozen=True)
class Calibration:
    """The chosen thresholds and their result, and those of others.

    Args:
        chosen: the result of the thresholds in `config`.
        before: the result of the decoder as it was.
        trade_off: the best thresholds for other numbers of false alarms, from few to many.
        one_for_all: the results of one threshold for all words.
    """

    max_per_hour: float
    config: DecoderConfig
    policy: StatePolicy
    chosen: Outcome
    before: Outcome
    trade_off: tuple[Outcome, ...]
    one_for_all: tuple[OperatingPoint, ...]
    ambient: AmbientSound
    case: StreamCase | None

    def provenance(self) -> dict[str, Any]:
        """How the thresholds were obtained, for the model's file."""
        chosen = self.chosen.as_dict()
        return {
            "max_false_alarms_per_hour": self.max_per_hour,
            "ambient": self.ambient.description | chosen["ambient"],
            "stream": self.case.source | chosen["stream"] if self.case else None,
            "state_policy": self.policy.model_dump(),
        }

    def as_metadata(self, metadata: Mapping[str, Any], corpus: Corpus | None) -> dict[str, Any]:
        """A model's metadata with the chosen decoder, and how it was chosen.

        Args:
            corpus: the recordings that the stream was made from, if there was a stream.
        """
        origin = self.provenance() | {"speechgru": __version__}
        if corpus is not None:
            origin["data"] = {"name": corpus.root.name, "fingerprint": corpus_fingerprint(corpus)}
        return dict(metadata) | {
            metadata_key(self.config): self.config.model_dump(),
            "state_policy": self.policy.model_dump(),
            "calibration": origin,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.provenance(),
            "decoder": self.config.model_dump(),
            "thresholds": self.chosen.thresholds,
            "before": self.before.as_dict(),
            "trade_off": [outcome.as_dict() for outcome in self.trade_off],
        }


def save_calibration_picture(calibration: Calibration, path: Path) -> None:
    """Draw the DET curves of one threshold for all words and of one per word; needs a stream.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    assert calibration.case is not None
    ambient, chosen = calibration.ambient, calibration.chosen
    hours = f"{chosen.ambient.hours:.2g} hours"
    title = f"{ambient.root.name}, {hours}, and {calibration.case.title}"
    by_word = [outcome.point for outcome in calibration.trade_off]
    save_det_picture(calibration.one_for_all, chosen.point, title, path, by_word)


def calibrate(
    backend: Backend,
    ambient: AmbientSound,
    case: StreamCase | None,
    max_per_hour: float,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
) -> Calibration:
    """Choose a threshold for each word, and a detector's `most_unknown` or `most_silence`.

    Without a stream, the thresholds of `config` are raised as little as possible and all else
    stays. `progress` is in seconds of audio; trying thresholds counts as much as running the model.

    Raises:
        UsageError: the rate is not above 0, or the model has no word.
        GateError: the highest thresholds still give more false alarms than allowed.
        DataError: samples, or the model's output, are not finite.
    """
    words = Vocabulary(tuple(backend.labels)).words
    if not 0 < max_per_hour < np.inf:
        raise UsageError(f"{max_per_hour:g} false alarms per hour: must be a number above 0")
    if not words:
        raise UsageError("the model has no word that could be an event")
    detectors = _detectors(config, backend, case)
    recordings = _Recordings(backend, ambient, case, config, policy, words)
    combined = CombinedProgress(progress, recordings.total_s * (1 + len(detectors)))
    recordings.run(config, combined)
    current = {word: config.threshold_for(word) for word in words}
    before = recordings.outcome(config, current)
    limit = int(max_per_hour * before.ambient.hours + 1e-9)
    results = [
        _best_within(recordings, detector, before, limit, combined.task(recordings.total_s))
        for detector in detectors
    ]
    candidates = [result for result in results if result is not None]
    if not candidates:
        last = {word: max(THRESHOLDS[-1], current[word]) for word in words}
        highest = recordings.outcome(detectors[-1], last).ambient
        word, figures = next(iter(highest.by_word.items()))
        raise GateError(
            f"{max_per_hour:g} false alarms per hour cannot be reached: at thresholds of "
            f"{THRESHOLDS[-1]:g} there are still {highest.per_hour:.3g}, {figures['per_hour']:.3g} "
            f"of them {word!r}; if it is spoken in the ambient audio, leave that recording out"
        )
    best = min(candidates, key=lambda candidate: candidate.errors)
    trade_off = [best.outcome]
    for total in _TOTALS:
        thresholds = best.table.best(total)
        if thresholds is not None and all(thresholds != known.thresholds for known in trade_off):
            trade_off.append(recordings.outcome(best.config, thresholds))
    return Calibration(
        max_per_hour,
        best.config.model_copy(update={"thresholds": best.outcome.thresholds}),
        policy,
        best.outcome,
        before,
        tuple(sorted(trade_off, key=lambda outcome: len(outcome.ambient.events))),
        best.one_for_all,
        ambient,
        case,
    )


def _detectors(
    config: DecoderConfig, backend: Backend, case: StreamCase | None
) -> list[DecoderConfig]:
    """The decoder, and stricter ones if a stream shows what they cost."""
    if not isinstance(config, DetectorConfig) or case is None:
        return [config]
    changes: list[dict[str, float]] = []
    if UNKNOWN in backend.labels:
        where = SPEECH_BEFORE if config.most_unknown == 1 else {}
        shares = [share for share in MOST_UNKNOWN if share < config.most_unknown]
        changes += [{"most_unknown": share} | where for share in shares]
    if SILENCE in backend.labels:
        shares = [share for share in MOST_SILENCE if share < config.most_silence]
        changes += [{"most_silence": share} for share in shares]
    return [config, *(config.model_copy(update=change) for change in changes)]


@dataclass(frozen=True)
class _Candidate:
    """The best thresholds of one decoder, and all that they were chosen from."""

    config: DecoderConfig
    outcome: Outcome
    table: ThresholdTable
    one_for_all: tuple[OperatingPoint, ...]

    @property
    def errors(self) -> int:
        """Errors on the stream; 0 without one."""
        return self.outcome.stream.errors if self.outcome.stream else 0


def _best_within(
    recordings: "_Recordings",
    config: DecoderConfig,
    before: Outcome,
    limit: int,
    progress: Progress,
) -> _Candidate | None:
    """The best thresholds with at most `limit` false alarms, with all words together."""
    table, one_for_all = recordings.threshold_table(config, progress)
    if before.stream is None and len(before.ambient.events) <= limit:
        return _Candidate(config, before, table, one_for_all)
    allowed, thresholds = limit, table.best(limit)
    while thresholds is not None:
        outcome = recordings.outcome(config, thresholds)
        # Words suppress each other's events, so together there may be a few more than their sum.
        surplus = len(outcome.ambient.events) - limit
        if surplus <= 0:
            return _Candidate(config, outcome, table, one_for_all)
        allowed = min(allowed, table.total(thresholds)) - surplus
        fewer = table.best(allowed) if allowed >= 0 else None
        thresholds = fewer or _raised(thresholds, outcome.ambient.events, table)
    return None


def _raised(
    thresholds: dict[str, float], events: Sequence[Event], table: ThresholdTable
) -> dict[str, float] | None:
    """The thresholds, with the next higher one for each word of the events; None above the last."""
    words = {event.word for event in events}
    found = {word: table.above(word, thresholds[word]) for word in words}
    higher = {word: threshold for word, threshold in found.items() if threshold is not None}
    return thresholds | higher if higher else None


class _Recordings:
    """Ambient audio and a stream, run through the model once; any thresholds are tried on that."""

    def __init__(
        self,
        backend: Backend,
        ambient: AmbientSound,
        case: StreamCase | None,
        config: DecoderConfig,
        policy: StatePolicy,
        words: Sequence[str],
    ) -> None:
        self.backend, self.ambient, self.case = backend, ambient, case
        self.policy, self.words = policy, words
        self.ambient_s = round(ambient.duration_s)
        self.total_s = self.ambient_s + (round(case.sound.duration_s) if case else 0)
        # The search of a CTC decoder does not depend on thresholds: they only suppress events.
        self.is_ctc = isinstance(config, CTCConfig)

    def run(self, config: DecoderConfig, combined: CombinedProgress) -> None:
        """Run the model on them, before anything else."""
        if self.is_ctc:
            config = config.model_copy(update={"threshold": 0.0, "thresholds": {}})
        keep = not self.is_ctc
        report = combined.task(self.ambient_s)
        self.ambient_output, _ = recognize_ambient(
            self.backend, self.ambient, config, self.policy, report, keep
        )
        self.ambient_hours = self.ambient_output.duration_s / 3600
        self.stream_output: StreamOutput | None = None
        if self.case is not None:
            report = combined.task(self.total_s - self.ambient_s)
            self.stream_output = recognize_stream(
                self.backend, self.case.sound, config, self.policy, report, keep
            )

    def _events(self, output: StreamOutput, config: DecoderConfig) -> list[Event]:
        """The events that other thresholds give."""
        if self.is_ctc:
            return [
                event for event in output.events if event.score >= config.threshold_for(event.word)
            ]
        return output.replay(config)

    def outcome(self, config: DecoderConfig, thresholds: dict[str, float]) -> Outcome:
        """The result of these thresholds, with all words together.

        If events reset the state, the model runs again: other thresholds mean other resets.
        """
        config = config.model_copy(update={"thresholds": thresholds})
        if self.policy.mode == "event":
            _, ambient = recognize_ambient(self.backend, self.ambient, config, self.policy)
        else:
            ambient = report_ambient(self.ambient_output, self._events(self.ambient_output, config))
        if self.case is None or self.stream_output is None:
            return Outcome(thresholds, ambient, None)
        if self.policy.mode == "event":
            sound = self.case.sound
            output = recognize_stream(
                self.backend, sound, config, self.policy, keep_log_posteriors=False
            )
            events = list(output.events)
        else:
            events = self._events(self.stream_output, config)
        scored = score_events(self.case.truth, events, self.stream_output.duration_s)
        return Outcome(thresholds, ambient, scored)

    def threshold_table(
        self, config: DecoderConfig, progress: Progress
    ) -> tuple[ThresholdTable, tuple[OperatingPoint, ...]]:
        """Each word's false alarms and errors at each threshold, the same for all words.

        A word may get one of `THRESHOLDS` or its current one; without a stream none that is lower.
        With a stream, also the operating point of each threshold.
        """
        current = [config.threshold_for(word) for word in self.words]
        thresholds = sorted({*THRESHOLDS, *current})
        shape = (len(self.words), len(thresholds))
        alarms, errors = np.zeros(shape, np.int64), np.zeros(shape)
        points = []
        for k, threshold in enumerate(thresholds):
            progress(k, len(thresholds))
            one = config.model_copy(update={"threshold": threshold, "thresholds": {}})
            counts = Counter(event.word for event in self._events(self.ambient_output, one))
            alarms[:, k] = [counts[word] for word in self.words]
            if self.case is None or self.stream_output is None:
                # The "errors" of a threshold are by how much it is raised.
                raised = threshold - np.array(current)
                errors[:, k] = np.where(raised < 0, np.inf, raised)
            else:
                events = self._events(self.stream_output, one)
                report = score_events(self.case.truth, events, self.stream_output.duration_s)
                per_hour = counts.total() / self.ambient_hours
                points.append(OperatingPoint(threshold, per_hour, report.false_reject_rate))
                errors[:, k] = self._errors(report)
            if threshold not in THRESHOLDS:
                errors[np.not_equal(current, threshold), k] = np.inf
        progress(len(thresholds), len(thresholds))
        return ThresholdTable(self.words, alarms, errors, thresholds, current), tuple(points)

    def _errors(self, report: EventReport) -> list[int]:
        """Errors of each word."""
        matched = Counter(spoken.word for spoken, _ in report.matched)
        spoken = Counter(spoken.word for spoken in report.words)
        false = Counter(event.word for event in report.false_alarms)
        return [spoken[word] - matched[word] + false[word] for word in self.words]
