"""Chooses a decoder and a state policy by their errors on a stream and in ambient sound."""

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
from speechgru.evaluation.streams import Sound, StreamOutput, StreamReport, recognize_stream
from speechgru.labels import Head
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import CARRY, StatePolicy

SMOOTHING_S = (0.06, 0.1, 0.2, 0.3)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_DURATION_S = (0.04, 0.1, 0.2)
#: Not tuned: it does not matter on a stream of words with pauses between them.
REFRACTORY_S = 0.25
MOST_UNKNOWN = (0.1, 0.2, 1.0)
BEAMS = (1, 8)
#: This much median latency counts as one error.
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
#: Policies whose resets do not depend on the decoder.
POLICIES = (
    CARRY,
    StatePolicy(mode="silence", silence_s=0.3),
    StatePolicy(mode="silence", silence_s=0.5),
)


@dataclass(frozen=True)
class Trial:
    """The result of a decoder with a state policy; `ambient` are its events in ambient sound."""

    config: DecoderConfig
    policy: StatePolicy
    report: EventReport
    ambient: int | None = None

    @property
    def errors(self) -> int:
        """Words of the stream that are not matched, plus events where there should be none."""
        return self.report.errors + (self.ambient or 0)

    @property
    def settings(self) -> dict[str, float]:
        """The settings in which the decoders that are tried differ."""
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
    """Try every decoder of a grid, all for one head, with each state policy; the best comes first.

    That is the one with the fewest errors (words that are not matched, and false alarms), where
    `LATENCY_MS` of median latency count as one error. Every event in `ambient` is a false alarm.

    With the policy "event" the state depends on the decoder, so it is tried only with the best
    decoder of the other policies.
    """
    stream_s = round(sound.duration_s)
    ambient_s = round(ambient.duration_s) if ambient else 0
    # Decoding with a whole grid takes about as long as running the model.
    combined = CombinedProgress(progress, (2 * len(POLICIES) + 1) * (stream_s + ambient_s))
    trials = []
    for policy in POLICIES:
        output = recognize_stream(backend, sound, grid[0], policy, combined.task(stream_s))
        ambient_output = _recognize_ambient(
            backend, ambient, grid[0], policy, combined.task(ambient_s)
        )
        grid_progress = combined.task(stream_s + ambient_s)
        for number, config in enumerate(grid, 1):
            report = score_events(truth, output.replay(config), output.duration_s)
            events = len(ambient_output.replay(config)) if ambient_output else None
            trials.append(Trial(config, policy, report, events))
            grid_progress(number, len(grid))
    config, policy = min(trials, key=rank).config, StatePolicy(mode="event")
    output = recognize_stream(backend, sound, config, policy, combined.task(stream_s))
    report = score_events(truth, output.events, output.duration_s)
    ambient_output = _recognize_ambient(backend, ambient, config, policy, combined.task(ambient_s))
    events = len(ambient_output.events) if ambient_output else None
    trials.append(Trial(config, policy, report, events))
    return sorted(trials, key=rank)


def tuned_metadata(
    metadata: Mapping[str, Any], report: StreamReport, ambient: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A model's metadata with the decoder and policy of a report, and what they were chosen on.

    Args:
        ambient: the ambient sound and its events, if there was any.
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
    tuned.pop("calibration", None)  # of the previous decoder
    return tuned


def _recognize_ambient(
    backend: Backend,
    ambient: Sound | None,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress,
) -> StreamOutput | None:
    if ambient is None:
        return None
    return recognize_stream(backend, ambient, config, policy, progress)


def rank(trial: Trial) -> float:
    """Errors, including those that the latency counts as; the lowest is the best."""
    return trial.errors + (trial.report.latency_ms["p50"] or 0.0) / LATENCY_MS
