"""A threshold for each word, by a wanted number of false alarms an hour.

What fires in ambient audio is a false alarm. Of all choices of thresholds that give no more of them
than wanted, the one with the fewest errors on a stream with a truth is taken (errors are words that
are not matched, and false alarms in that stream: on unknown words, say). So is how much of other
words a detector allows right before a word.
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
from speechgru.evaluation.ambient import AmbientReport, AmbientSound, hear_ambient, report_ambient
from speechgru.evaluation.det import OperatingPoint, save_det_picture
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.replay import Hearing, hear
from speechgru.evaluation.streams import StreamCase
from speechgru.evaluation.thresholds import THRESHOLDS, Choices
from speechgru.labels import UNKNOWN, Vocabulary
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import StatePolicy
from speechgru.version import __version__

#: A detector's `most_unknown` that are tried beside its own.
MOST_UNKNOWN = (0.3, 0.2, 0.1, 0.05)
#: Totals of false alarms for which the trade-off is told.
_TOTALS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class Outcome:
    """What thresholds give: in ambient audio, and on the stream if there is one."""

    thresholds: dict[str, float]
    ambient: AmbientReport
    stream: EventReport | None

    @property
    def point(self) -> OperatingPoint:
        """On a DET curve; it needs a stream."""
        assert self.stream is not None
        return OperatingPoint(None, self.ambient.per_hour, self.stream.false_reject_rate)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"thresholds": self.thresholds, "ambient": self.ambient.as_dict()}
        if self.stream is not None:
            told["stream"] = {
                "words": self.stream.n,
                "matched": len(self.stream.matched),
                "wrong": len(self.stream.wrong),
                "missed": self.stream.missed,
                "false_alarms": len(self.stream.false_alarms),
                "false_reject_rate": self.stream.false_reject_rate,
                "false_reject_rate_ci95": list(self.stream.false_reject_ci95),
            }
        return told


@dataclass(frozen=True)
class Calibration:
    """Thresholds that were chosen, what they give, and what others would give.

    `before` is of the detector as it was. `trade_off` are the best choices for other numbers of
    false alarms, from few to many; `one_for_all` what one threshold for all words gives.
    """

    wanted_per_hour: float
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
        told = self.chosen.as_dict()
        return {
            "max_false_alarms_per_hour": self.wanted_per_hour,
            "ambient": self.ambient.described | told["ambient"],
            "stream": self.case.source | told["stream"] if self.case else None,
            "state_policy": self.policy.model_dump(),
        }

    def as_metadata(self, metadata: Mapping[str, Any], corpus: Corpus | None) -> dict[str, Any]:
        """A model's metadata with the chosen decoder, and how and on what it was chosen.

        Args:
            corpus: the recordings that the stream was made from, if there was one.
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


def save_calibration_picture(found: Calibration, path: Path) -> None:
    """Draw the DET curves of one threshold for all words and of one for each; it needs a stream.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    assert found.case is not None
    chosen = found.chosen
    title = f"{found.ambient.root.name}, {chosen.ambient.hours:.2g} hours, and {found.case.title}"
    by_word = [outcome.point for outcome in found.trade_off]
    save_det_picture(found.one_for_all, chosen.point, title, path, by_word)


def calibrate(
    backend: Backend,
    ambient: AmbientSound,
    case: StreamCase | None,
    wanted_per_hour: float,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
) -> Calibration:
    """Choose a threshold for each word, and a detector's `most_unknown`.

    Without a stream raise the thresholds of `config` by little, and leave the rest. `progress` is
    in seconds of audio; to try thresholds counts as much as to hear it.

    Raises:
        UsageError: the wanted number is not above 0, or the model has no word.
        GateError: the highest thresholds still give more false alarms than wanted.
        DataError: the sounds', or the model's answer is not a number.
    """
    words = Vocabulary(tuple(backend.labels)).words
    if not 0 < wanted_per_hour < np.inf:
        raise UsageError(f"{wanted_per_hour:g} false alarms an hour: a number above 0 is needed")
    if not words:
        raise UsageError("the model has no word that could be an event")
    detectors = _detectors(config, backend, case)
    sounds = _Sounds(backend, ambient, case, config, policy, words)
    combined = CombinedProgress(progress, sounds.total_s * (1 + len(detectors)))
    sounds.hear(config, combined)
    before = sounds.outcome(config, {word: config.threshold_for(word) for word in words})
    most = int(wanted_per_hour * before.ambient.hours + 1e-9)
    found = [_within(sounds, tried, most, combined.task(sounds.total_s)) for tried in detectors]
    choices = [choice for choice in found if choice is not None]
    if not choices:
        highest = sounds.outcome(detectors[-1], dict.fromkeys(words, THRESHOLDS[-1])).ambient
        word, told = next(iter(highest.by_word.items()))
        raise GateError(
            f"{wanted_per_hour:g} false alarms an hour cannot be had: at thresholds of "
            f"{THRESHOLDS[-1]:g} there are still {highest.per_hour:.3g}, {told['per_hour']:.3g} of "
            f"them {word!r}; if it is said in the ambient audio, leave that recording out"
        )
    best = min(choices, key=lambda choice: choice.errors)
    trade_off = [best.outcome]
    for total in _TOTALS:
        thresholds = best.choices.best(total)
        if thresholds is not None and all(thresholds != known.thresholds for known in trade_off):
            trade_off.append(sounds.outcome(best.config, thresholds))
    return Calibration(
        wanted_per_hour,
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
    """The decoder, and stricter ones where a stream can say what that costs."""
    stricter: list[DecoderConfig] = []
    if isinstance(config, DetectorConfig) and case is not None and UNKNOWN in backend.labels:
        shares = [share for share in MOST_UNKNOWN if share < config.most_unknown]
        stricter = [config.model_copy(update={"most_unknown": share}) for share in shares]
    return [config, *stricter]


@dataclass(frozen=True)
class _Choice:
    """The best thresholds of one decoder, and the others that it was chosen from."""

    config: DecoderConfig
    outcome: Outcome
    choices: Choices
    one_for_all: tuple[OperatingPoint, ...]

    @property
    def errors(self) -> int:
        """On the stream; 0 without one."""
        return self.outcome.stream.errors if self.outcome.stream else 0


def _within(
    sounds: "_Sounds", config: DecoderConfig, most: int, progress: Progress
) -> _Choice | None:
    """The best choice with no more false alarms than `most`, heard with all words together."""
    choices, one_for_all = sounds.choices(config, progress)
    allowed = most
    while allowed >= 0:
        thresholds = choices.best(allowed)
        if thresholds is None:
            return None
        outcome = sounds.outcome(config, thresholds)
        # Words hold each other back, so together they may give a few more than added up.
        surplus = len(outcome.ambient.events) - most
        if surplus <= 0:
            return _Choice(config, outcome, choices, one_for_all)
        allowed = min(allowed, choices.total(thresholds)) - surplus
    return None


class _Sounds:
    """Ambient audio and a stream, heard once by `hear`; what other thresholds give in them."""

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
        # What a CTC decoder finds depends on no threshold: they only hold back its events.
        self.searches = isinstance(config, CTCConfig)

    def hear(self, config: DecoderConfig, combined: CombinedProgress) -> None:
        """Hear them; the rest replays that."""
        if self.searches:
            config = config.model_copy(update={"threshold": 0.0, "thresholds": {}})
        keep = not self.searches
        report = combined.task(self.ambient_s)
        self.of_ambient, _ = hear_ambient(
            self.backend, self.ambient, config, self.policy, report, keep
        )
        self.ambient_hours = self.of_ambient.duration_s / 3600
        self.of_stream: Hearing | None = None
        if self.case is not None:
            report = combined.task(self.total_s - self.ambient_s)
            self.of_stream = hear(self.backend, self.case.sound, config, self.policy, report, keep)

    def _events(self, heard: Hearing, config: DecoderConfig) -> list[Event]:
        """What other thresholds find in what was heard."""
        if self.searches:
            return [
                event for event in heard.events if event.score >= config.threshold_for(event.word)
            ]
        return heard.replay(config)

    def outcome(self, config: DecoderConfig, thresholds: dict[str, float]) -> Outcome:
        """What these thresholds give together.

        Where events reset the state, all is heard again: other thresholds, other resets.
        """
        config = config.model_copy(update={"thresholds": thresholds})
        if self.policy.mode == "event":
            _, ambient = hear_ambient(self.backend, self.ambient, config, self.policy)
        else:
            ambient = report_ambient(self.of_ambient, self._events(self.of_ambient, config))
        if self.case is None or self.of_stream is None:
            return Outcome(thresholds, ambient, None)
        if self.policy.mode == "event":
            events = list(
                hear(self.backend, self.case.sound, config, self.policy, keep=False).events
            )
        else:
            events = self._events(self.of_stream, config)
        scored = score_events(self.case.truth, events, self.of_stream.duration_s)
        return Outcome(thresholds, ambient, scored)

    def choices(
        self, config: DecoderConfig, progress: Progress
    ) -> tuple[Choices, tuple[OperatingPoint, ...]]:
        """Each word's false alarms and errors at each of `THRESHOLDS`, which are one for all.

        With a stream, also a point of each.
        """
        shape = (len(self.words), len(THRESHOLDS))
        alarms, errors = np.zeros(shape, np.int64), np.zeros(shape)
        points = []
        for k, threshold in enumerate(THRESHOLDS):
            progress(k, len(THRESHOLDS))
            one = config.model_copy(update={"threshold": threshold, "thresholds": {}})
            counted = Counter(event.word for event in self._events(self.of_ambient, one))
            alarms[:, k] = [counted[word] for word in self.words]
            if self.case is None or self.of_stream is None:
                # A word's errors are how far it lies from the threshold as it was.
                errors[:, k] = [abs(threshold - config.threshold_for(word)) for word in self.words]
                continue
            events = self._events(self.of_stream, one)
            report = score_events(self.case.truth, events, self.of_stream.duration_s)
            per_hour = counted.total() / self.ambient_hours
            points.append(OperatingPoint(threshold, per_hour, report.false_reject_rate))
            errors[:, k] = self._errors(report)
        progress(len(THRESHOLDS), len(THRESHOLDS))
        return Choices(self.words, alarms, errors), tuple(points)

    def _errors(self, report: EventReport) -> list[int]:
        """Of each word."""
        matched = Counter(spoken.word for spoken, _ in report.matched)
        spoken = Counter(spoken.word for spoken in report.words)
        false = Counter(event.word for event in report.false_alarms)
        return [spoken[word] - matched[word] + false[word] for word in self.words]
