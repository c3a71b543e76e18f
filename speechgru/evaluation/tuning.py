"""Chooses a decoder and a state policy by their errors on streams and in ambient sound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from speechgru.common.progress import CombinedProgress, Progress
from speechgru.corpora.truth import Truth
from speechgru.decoding.ctc import CTCConfig
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Event
from speechgru.decoding.factory import DecoderConfig, head_of, metadata_key
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.streams import (
    Sound,
    StreamCase,
    StreamOutput,
    StreamReport,
    recognize_stream,
)
from speechgru.labels import SILENCE, Head
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import CARRY, StatePolicy

SMOOTHING_S = (0.06, 0.1, 0.2, 0.3)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_DURATION_S = (0.04, 0.1, 0.2)
#: Not tuned: it does not matter on a stream of words with pauses between them.
REFRACTORY_S = 0.25
MOST_UNKNOWN = (0.1, 0.15, 0.2, 1.0)
#: Where other speech is looked for before a word, if it matters, and where a pause.
SPEECH_BEFORE = {"unknown_s": 0.3, "pause_s": 0.7}
#: Tried with the best detector.
MOST_SILENCE = (0.1, 0.05, 0.03)
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
        **SPEECH_BEFORE,
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
    """The result of a decoder with a state policy.

    Args:
        ambient: the number of its events in ambient sound.
        conversation: its events in a conversation.
    """

    config: DecoderConfig
    policy: StatePolicy
    report: EventReport
    ambient: int | None = None
    conversation: EventReport | None = None

    @property
    def errors(self) -> int:
        """Words that are not matched, plus events where there should be none."""
        in_conversation = self.conversation.errors if self.conversation else 0
        return self.report.errors + in_conversation + (self.ambient or 0)

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
            "most_silence": config.most_silence,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        report, talked = self.report, self.conversation
        conversation = talked and {
            "matched": len(talked.matched),
            "wrong": len(talked.wrong),
            "false_alarms": len(talked.false_alarms),
            "missed": talked.missed,
        }
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
            **({} if conversation is None else {"conversation": conversation}),
        }


def tune(
    backend: Backend,
    sound: Sound,
    truth: Truth,
    grid: Sequence[DecoderConfig] = GRID,
    progress: Progress | None = None,
    ambient: Sound | None = None,
    conversation: StreamCase | None = None,
) -> list[Trial]:
    """Try every decoder of a grid, all for one head, with each state policy; the best comes first.

    That is the one with the fewest errors (words that are not matched, and false alarms), where
    `LATENCY_MS` of median latency in the stream count as one error. Every event in `ambient` is a
    false alarm; the errors in a conversation count like those in the stream.

    How much silence there may be within a word is tried with the best detector of the grid. With
    the policy "event" the state depends on the decoder, so it is tried only with the best decoder
    of the other policies.
    """
    sounds = [sound, ambient, conversation.sound if conversation else None]
    total_s = sum(round(each.duration_s) for each in sounds if each)
    # Decoding with a whole grid takes about as long as running the model.
    combined = CombinedProgress(progress, (2 * len(POLICIES) + 1) * total_s)

    def outputs_of(config: DecoderConfig, policy: StatePolicy) -> list[StreamOutput | None]:
        return [
            recognize_stream(backend, s, config, policy, combined.task(round(s.duration_s)))
            if s
            else None
            for s in sounds
        ]

    def trial(
        config: DecoderConfig,
        policy: StatePolicy,
        outputs: list[StreamOutput | None],
        events_of: Callable[[StreamOutput], Sequence[Event]],
    ) -> Trial:
        stream, around, talk = outputs
        assert stream is not None
        report = score_events(truth, events_of(stream), stream.duration_s)
        ambient_events = len(events_of(around)) if around else None
        talked = (
            score_events(conversation.truth, events_of(talk), talk.duration_s)
            if conversation and talk
            else None
        )
        return Trial(config, policy, report, ambient_events, talked)

    def replayed(
        config: DecoderConfig, policy: StatePolicy, outputs: list[StreamOutput | None]
    ) -> Trial:
        return trial(config, policy, outputs, partial(StreamOutput.replay, config=config))

    trials, outputs_by_policy = [], {}
    for policy in POLICIES:
        outputs = outputs_by_policy[policy] = outputs_of(grid[0], policy)
        grid_progress = combined.task(total_s)
        for number, config in enumerate(grid, 1):
            trials.append(replayed(config, policy, outputs))
            grid_progress(number, len(grid))
    best = min(trials, key=rank)
    if isinstance(best.config, DetectorConfig) and SILENCE in backend.labels:
        for share in MOST_SILENCE:
            config = best.config.model_copy(update={"most_silence": share})
            trials.append(replayed(config, best.policy, outputs_by_policy[best.policy]))
    config, policy = min(trials, key=rank).config, StatePolicy(mode="event")
    outputs = outputs_of(config, policy)
    trials.append(trial(config, policy, outputs, lambda output: output.events))
    return sorted(trials, key=rank)


def tuned_metadata(
    metadata: Mapping[str, Any], report: StreamReport, **others: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A model's metadata with the decoder and policy of a report, and what they were chosen on.

    Args:
        others: what else they were chosen on, with the errors in it: `ambient`, `conversation`.
    """
    chosen_on = report.case.source | {"errors": report.events.errors}
    chosen_on |= {name: dict(other) for name, other in others.items() if other is not None}
    tuned = dict(metadata) | {
        "head": head_of(report.config),
        metadata_key(report.config): report.config.model_dump(),
        "state_policy": report.policy.model_dump(),
        "decoder_chosen_on": chosen_on,
    }
    tuned.pop("calibration", None)  # of the previous decoder
    return tuned


def rank(trial: Trial) -> float:
    """Errors, including those that the latency counts as; the lowest is the best."""
    return trial.errors + (trial.report.latency_ms["p50"] or 0.0) / LATENCY_MS
