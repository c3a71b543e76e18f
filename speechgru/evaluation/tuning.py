"""Choosing a decoder and a state policy by what they give on a stream, and in ambient sound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from speechgru.common.progress import CombinedProgress, Progress
from speechgru.corpora.truth import Truth
from speechgru.decoding.ctc import CTCConfig
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.factory import DecoderConfig, head_of, metadata_key
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.replay import Hearing, Sound, hear
from speechgru.evaluation.streams import StreamReport
from speechgru.labels import Head
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import CARRY, StatePolicy

SMOOTHING_S = (0.06, 0.1, 0.2, 0.3)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_DURATION_S = (0.04, 0.1, 0.2)
#: Not tried: on a stream of words with pauses between them it decides nothing.
REFRACTORY_S = 0.25
MOST_UNKNOWN = (0.1, 0.2, 1.0)
BEAMS = (1, 8)
#: So much of the median latency weighs as much as an error.
LATENCY_MS = 50.0

#: Detectors for a classify head.
GRID = tuple(
    DetectorConfig(
        smoothing_s=smoothing_s,
        threshold=threshold,
        min_duration_s=min_duration_s,
        refractory_s=REFRACTORY_S,
        most_unknown=most_unknown,
    )
    for smoothing_s, threshold, min_duration_s, most_unknown in product(
        SMOOTHING_S, THRESHOLDS, MIN_DURATION_S, MOST_UNKNOWN
    )
)
#: Decoders for a CTC head.
CTC_GRID = tuple(
    CTCConfig(beam=beam, threshold=threshold)
    for beam, threshold in product(BEAMS, (0.1, 0.2, *THRESHOLDS))
)
GRIDS: dict[Head, tuple[DecoderConfig, ...]] = {"classify": GRID, "ctc": CTC_GRID}
#: Policies whose resets do not depend on the detector.
POLICIES = (
    CARRY,
    StatePolicy(mode="silence", silence_s=0.3),
    StatePolicy(mode="silence", silence_s=0.5),
)


@dataclass(frozen=True)
class Trial:
    """What a decoder with a state policy gave; `ambient` are its events there, if it was heard."""

    config: DecoderConfig
    policy: StatePolicy
    report: EventReport
    ambient: int | None = None

    @property
    def errors(self) -> int:
        """Words of the stream that are not matched, and events where none should be."""
        return self.report.errors + (self.ambient or 0)

    @property
    def settings(self) -> dict[str, float]:
        """What the decoders that were tried differ in."""
        config = self.config
        if isinstance(config, CTCConfig):
            return {"beam": config.beam, "threshold": config.threshold}
        return {
            "smoothing_s": config.smoothing_s,
            "threshold": config.threshold,
            "min_duration_s": config.min_duration_s,
            "most_unknown": config.most_unknown,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        report = self.report
        return {
            "state_policy": self.policy.model_dump(),
            **self.settings,
            "errors": self.errors,
            "matched": len(report.matched),
            "wrong": len(report.wrong),
            "false_alarms": len(report.false_alarms),
            "missed": report.missed,
            "latency_ms": report.latency_ms,
            **({} if self.ambient is None else {"ambient_events": self.ambient}),
        }


def tune(
    backend: Backend,
    sound: Sound,
    truth: Truth,
    grid: Sequence[DecoderConfig] = GRID,
    progress: Progress | None = None,
    ambient: Sound | None = None,
) -> list[Trial]:
    """Every decoder of a grid, all of one head, with each state policy, the best first.

    That is the one with the fewest errors, each a word that is not matched or a false alarm, but
    `LATENCY_MS` of the median latency weigh as much as an error. Of `ambient`, in which no word
    should be heard, each event is a false alarm.
    What follows an event depends on the decoder, so the policy "event" is tried with the best
    decoder of the others only.
    """
    heard_s = round(sound.duration_s)
    ambient_s = round(ambient.duration_s) if ambient else 0
    # To try a grid counts as much as to hear what it is tried on.
    combined = CombinedProgress(progress, (2 * len(POLICIES) + 1) * (heard_s + ambient_s))
    trials = []
    for policy in POLICIES:
        heard = hear(backend, sound, grid[0], policy, combined.task(heard_s))
        around = _hear_around(backend, ambient, grid[0], policy, combined.task(ambient_s))
        tried = combined.task(heard_s + ambient_s)
        for number, config in enumerate(grid, 1):
            report = score_events(truth, heard.replay(config), heard.duration_s)
            events = len(around.replay(config)) if around else None
            trials.append(Trial(config, policy, report, events))
            tried(number, len(grid))
    config, policy = min(trials, key=rank).config, StatePolicy(mode="event")
    heard = hear(backend, sound, config, policy, combined.task(heard_s))
    report = score_events(truth, heard.events, heard.duration_s)
    around = _hear_around(backend, ambient, config, policy, combined.task(ambient_s))
    trials.append(Trial(config, policy, report, len(around.events) if around else None))
    return sorted(trials, key=rank)


def tuned_metadata(
    metadata: Mapping[str, Any], report: StreamReport, ambient: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A model's metadata with the decoder and policy of a report, and on what they were chosen.

    Args:
        ambient: what the ambient sound was and its events, if it was listened to.
    """
    chosen_on = report.case.source | {"errors": report.events.errors}
    if ambient is not None:
        chosen_on["ambient"] = dict(ambient)
    tuned = dict(metadata) | {
        "head": head_of(report.config),
        metadata_key(report.config): report.config.model_dump(),
        "state_policy": report.policy.model_dump(),
        "decoder_chosen_on": chosen_on,
    }
    tuned.pop("calibration", None)  # that of the decoder before
    return tuned


def _hear_around(
    backend: Backend,
    ambient: Sound | None,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress,
) -> Hearing | None:
    return hear(backend, ambient, config, policy, progress) if ambient is not None else None


def rank(trial: Trial) -> float:
    """Errors, with the latency that weighs as such: the least is the best."""
    return trial.errors + (trial.report.latency_ms["p50"] or 0.0) / LATENCY_MS
