"""Choosing a detector and a state policy by what they give on a stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from speechgru.corpora.truth import Truth
from speechgru.detector import DetectorConfig
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.hearing import Sound, hear
from speechgru.state_policy import CARRY, StatePolicy
from speechgru.streaming import Backend

SMOOTHING_S = (0.06, 0.1, 0.2, 0.3)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_DURATION_S = (0.04, 0.1, 0.2)
REFRACTORY_S = (0.25, 0.5)
#: So much of the median latency weighs as much as an error.
LATENCY_MS = 50.0

GRID = tuple(
    DetectorConfig(
        smoothing_s=smoothing_s,
        threshold=threshold,
        min_duration_s=min_duration_s,
        refractory_s=refractory_s,
    )
    for smoothing_s, threshold, min_duration_s, refractory_s in product(
        SMOOTHING_S, THRESHOLDS, MIN_DURATION_S, REFRACTORY_S
    )
)
#: Policies whose resets do not depend on the detector.
POLICIES = (
    CARRY,
    StatePolicy(mode="silence", silence_s=0.3),
    StatePolicy(mode="silence", silence_s=0.5),
)


@dataclass(frozen=True)
class Trial:
    """What a detector with a state policy gave."""

    config: DetectorConfig
    policy: StatePolicy
    report: EventReport

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        report = self.report
        return {
            "state_policy": self.policy.model_dump(),
            "smoothing_s": self.config.smoothing_s,
            "threshold": self.config.threshold,
            "min_duration_s": self.config.min_duration_s,
            "refractory_s": self.config.refractory_s,
            "errors": report.errors,
            "matched": len(report.matched),
            "wrong": len(report.wrong),
            "false_alarms": len(report.false_alarms),
            "missed": report.missed,
            "latency_ms": report.latency_ms,
        }


def tune(
    backend: Backend,
    sound: Sound,
    truth: Truth,
    grid: Sequence[DetectorConfig] = GRID,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trial]:
    """Every detector of a grid with each state policy, the best first.

    That is the one with the fewest errors, each a word that is not matched or a false alarm, but
    `LATENCY_MS` of the median latency weigh as much as an error.
    What follows an event depends on the detector, so the policy "event" is tried with the best
    detector of the others only.
    """
    total = (len(POLICIES) + 1) * round(sound.duration_s)

    def report_from(start: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, _: progress(start + done, total)

    trials = []
    for number, policy in enumerate(POLICIES):
        heard = hear(backend, sound, grid[0], policy, report_from(number * round(sound.duration_s)))
        trials += [
            Trial(config, policy, score_events(truth, heard.replay(config), heard.duration_s))
            for config in grid
        ]
    config, policy = min(trials, key=_rank).config, StatePolicy(mode="event")
    heard = hear(
        backend, sound, config, policy, report_from(len(POLICIES) * round(sound.duration_s))
    )
    trials.append(Trial(config, policy, score_events(truth, heard.events, heard.duration_s)))
    return sorted(trials, key=_rank)


def _rank(trial: Trial) -> float:
    return trial.report.errors + (trial.report.latency_ms["p50"] or 0.0) / LATENCY_MS
