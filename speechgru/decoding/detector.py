"""The detector: a stream's posteriors to events, with the reason if there is no event."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from speechgru.common.settings import Settings
from speechgru.decoding.detector_steps import (
    CLEAR,
    SILENT,
    UNIT,
    Limit,
    Surroundings,
    in_units,
    last_below,
    moving_sums,
    steps_that_change_events,
    steps_with_words_near,
)
from speechgru.decoding.events import Event
from speechgru.decoding.verdicts import Gate, Verdict, VerdictLog
from speechgru.errors import UsageError
from speechgru.labels import SILENCE, UNKNOWN, Vocabulary

#: A word is a near miss from this share of its threshold on.
NEAR = 0.5
#: A word starts where its posterior rises above this.
ONSET = 0.1
#: For this many steps or fewer, plain Python is faster than numpy.
_FEW_STEPS = 8
#: Quiet steps are decided together, at most this many.
_MOST_PENDING = 50


class DetectorConfig(Settings):
    """When a word becomes an event; a model's file may hold its own under `decoder`."""

    #: Posteriors are averaged over this long (Chen, Parada and Heigold, 2014).
    smoothing_s: float = Field(0.2, ge=0.0, le=2.0)
    #: Smoothed posterior that a word needs, and the words that need another one.
    threshold: float = Field(0.5, gt=0.0, le=1.0)
    thresholds: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(default_factory=dict)
    #: How long the smoothed posterior has to stay above it.
    min_duration_s: float = Field(0.1, ge=0.0, le=2.0)
    #: Shortest time between two events.
    refractory_s: float = Field(0.5, ge=0.0, le=10.0)
    #: A word can be an event again once it has fallen below this share of its threshold: a
    #: recurrent network may keep its last answer for as long as nobody speaks.
    release: float = Field(0.8, gt=0.0, le=1.0)
    #: Highest mean posterior of `_unknown_` over the last `unknown_s` before an event. With other
    #: words right before it, a word is part of running speech. 1 allows everything.
    most_unknown: float = Field(1.0, ge=0.0, le=1.0)
    unknown_s: float = Field(0.5, ge=0.0, le=10.0)
    #: After a pause in the last `pause_s` a word is no part of running speech, whatever is unknown.
    pause_s: float = Field(0.0, ge=0.0, le=10.0)
    #: Highest mean posterior of `_silence_` over the steps that an event rests on, `smoothing_s`
    #: and `min_duration_s`: noise that resembles a word leaves silence within it. 1 allows all.
    most_silence: float = Field(1.0, ge=0.0, le=1.0)

    def threshold_for(self, word: str) -> float:
        """The threshold of a word."""
        return self.thresholds.get(word, self.threshold)


class Detector:
    """Emits an event when a word's smoothed posterior stays above its threshold.

    Silence, unknown and blank are never events. The result is the same in any chunking.

    Args:
        labels: the V labels, in the order of the log-posteriors.
        step_s: seconds from one step to the next.

    Raises:
        UsageError: a threshold is for a word that the labels do not have, or out of range.
    """

    def __init__(
        self, labels: Sequence[str], step_s: float, config: DetectorConfig | None = None
    ) -> None:
        self.config = config = config or DetectorConfig()
        self.labels = tuple(labels)
        self.words = Vocabulary(self.labels).words
        self.step_s = step_s
        self.columns = _as_slice([self.labels.index(word) for word in self.words])
        for word, threshold in self.config.thresholds.items():
            if word not in self.words or not 0 < threshold <= 1:
                raise UsageError(
                    f"threshold {word}={threshold:g}: a word of the model ({', '.join(self.words)})"
                    " and a number above 0 and up to 1 are needed"
                )
        self.window_steps = max(1, round(self.config.smoothing_s / step_s))
        self._set_limits()
        self.duration_steps = max(1, round(self.config.min_duration_s / step_s))
        self._refractory = round(self.config.refractory_s / step_s)
        #: What speaks against a word at a step.
        self.surroundings = Surroundings(
            self._limit(SILENCE, self.window_steps + self.duration_steps, config.most_silence),
            self._limit(UNKNOWN, max(1, round(config.unknown_s / step_s)), config.most_unknown),
            self._column(SILENCE) if config.pause_s else None,
            round(config.pause_s / step_s),
        )
        #: Whether near misses are noted: without, fewer steps have to be decided.
        self.notes_verdicts = True
        self.reset()

    def _limit(self, label: str, steps: int, mean: float) -> Limit | None:
        column = self._column(label)
        return Limit(column, steps, mean) if mean < 1 and column is not None else None

    def _column(self, label: str) -> int | None:
        return self.labels.index(label) if label in self.labels else None

    def _set_limits(self) -> None:
        self._thresholds = [self.config.threshold_for(word) for word in self.words]
        #: Limits in units: of an onset, of a single posterior, and of the sum over a window.
        self._onset_limits = [UNIT * ONSET] * len(self.words)
        self.step_limits = [UNIT * threshold for threshold in self._thresholds]
        self.sum_limits = [self.window_steps * limit for limit in self.step_limits]
        self.near_limits = [NEAR * limit for limit in self.sum_limits]
        self._far_limits = min(NEAR, self.config.release) * np.array(self.sum_limits)
        self._release_limits = self.config.release * np.array(self.sum_limits)
        self._quiet_bound = 0.99 * min(self.near_limits, default=0.0) / UNIT

    def change_thresholds(self, config: DetectorConfig) -> None:
        """Use a configuration that differs in thresholds only, from the next step on."""
        self._settle()
        self.config = config
        self._set_limits()

    def reset(self) -> None:
        """Start a new stream."""
        zeros = [0] * len(self.words)
        #: Steps pushed, those of them not yet decided, and the number of decided ones.
        self._steps = 0
        self._pending: list[NDArray[np.floating]] = []
        self._step = 0
        #: The highest posterior of each step of the window, and their sum.
        self._highest = deque([0.0] * self.window_steps, maxlen=self.window_steps)
        self._bound = 0.0
        #: Posteriors of the window's steps in units, and their sums; 0 before the start.
        self._past = deque([zeros] * self.window_steps, maxlen=self.window_steps)
        self._sums = zeros
        self.surroundings.reset()
        #: For each word, the last step with its posterior below ONSET, below its threshold, and
        #: with its smoothed posterior below its threshold.
        self._last_low = [[-1] * len(self.words)] * 3
        #: The word that first has to fall below its release, and where each word last did.
        self._held: int | None = None
        self._released = [-1] * len(self.words)
        self._blocked_until = 0
        self._log = VerdictLog(self.words, self.step_s)

    @property
    def time_s(self) -> float:
        """Seconds of the stream decoded so far."""
        return self._steps * self.step_s

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """Process the next steps, (T, V); returns the events they settle.

        While no word can be near its threshold, single steps are collected and decided together.
        The result is the same, and many steps take hardly longer than one.
        """
        self._pending.append(log_posteriors)
        self._steps += len(log_posteriors)
        if len(log_posteriors) == 1 and self._is_quiet(log_posteriors[0, self.columns].tolist()):
            return []
        return self._decide_pending()

    def _is_quiet(self, log_posteriors: list[float]) -> bool:
        """Whether no word can be near its threshold after this step.

        The mean of a word over the window is at most the mean of the steps' highest posteriors.
        """
        highest = math.exp(max(log_posteriors)) if log_posteriors else 0.0
        self._bound += highest - self._highest[0]
        self._highest.append(highest)
        return self._bound < self._quiet_bound and len(self._pending) < _MOST_PENDING

    def _decide_pending(self) -> list[Event]:
        pending, self._pending = self._pending, []
        if not pending or not self.words:
            self._step = self._steps
            return []
        log_posteriors = pending[0] if len(pending) == 1 else np.concatenate(pending)
        posteriors = in_units(log_posteriors[:, self.columns])  # (T, W)
        against = self.surroundings.push(log_posteriors)
        if len(posteriors) > _FEW_STEPS:
            events = self._push_many(posteriors, against)
        else:
            steps = zip(posteriors.tolist(), against.tolist(), strict=True)
            results = (self._push_one(*step) for step in steps)
            events = [event for event in results if event is not None]
        self._highest.extend(max(posteriors) / UNIT for posteriors in self._past)
        self._bound = sum(self._highest)
        return events

    def _push_one(self, posteriors: list[int], against: int) -> Event | None:
        """Process one step, in units, as plain lists: for so little numpy is slower."""
        step = self._step
        self._step += 1
        oldest = self._past[0]
        self._past.append(posteriors)
        sums = [
            total + new - old
            for total, new, old in zip(self._sums, posteriors, oldest, strict=True)
        ]
        self._sums = sums
        onset, reached, sustained = self._last_low
        last_low = self._last_low = [
            last_below(posteriors, self._onset_limits, step, onset),
            last_below(posteriors, self.step_limits, step, reached),
            last_below(sums, self.sum_limits, step, sustained),
        ]
        word = sums.index(max(sums))
        return self.decide(step, word, sums, [low[word] for low in last_low], against)

    def _push_many(self, posteriors: NDArray[np.int64], against: NDArray[np.int64]) -> list[Event]:
        """Process many steps at once: posteriors in units, (T, W), and what is against a word."""
        sums = moving_sums(self._past, posteriors)
        self._sums = sums[-1].tolist()
        first, self._step = self._step, self._step + len(posteriors)
        steps = np.arange(first, self._step)[:, np.newaxis]
        below = [
            posteriors < ONSET * UNIT,
            posteriors < self.step_limits,
            sums < self.sum_limits,
        ]
        last_low = np.where(below, steps, np.array(self._last_low)[:, np.newaxis])  # (3, T, W)
        last_low = np.maximum.accumulate(last_low, axis=1)
        self._last_low = last_low[:, -1].tolist()
        best = sums.argmax(axis=1)
        if self.notes_verdicts or self._log.is_open:
            places = steps_with_words_near(sums, self._far_limits)
        else:
            sustained_steps = steps[:, 0] - last_low[2, np.arange(len(best)), best]
            places = steps_that_change_events(
                (sustained_steps >= self.duration_steps) & (against != SILENT),
                best,
                sums < self._release_limits,
                self._refractory,
            )
        best = best[places]
        arguments = (
            places + first,
            best,
            sums[places],
            last_low[:, places, best].T,
            against[places],
        )
        results = (
            self.decide(*step)
            for step in zip(*(column.tolist() for column in arguments), strict=True)
        )
        return [event for event in results if event is not None]

    @property
    def is_active(self) -> bool:
        """Whether the next step has to be decided even if no word is near its threshold."""
        return self._held is not None or self._log.is_open

    def decide(
        self, step: int, word: int, sums: list[int], last_low: list[int], against: int
    ) -> Event | None:
        """Decide a step: its best word, all sums, where the best was low, what is against."""
        held = self._held
        if held is not None and sums[held] < self.config.release * self.sum_limits[held]:
            self._held, self._released[held] = None, step
        if sums[word] < self.near_limits[word]:
            self._log.close(self._thresholds)
            return None
        _, reached, sustained = last_low
        onset = max(last_low[0], self._released[word])  # said twice, it begins anew
        score = sums[word] / (self.window_steps * UNIT)
        gate = self._gate(word, step, step - sustained, against)
        if self.notes_verdicts:
            self._log.note(word, step, onset + 1, score, gate, self._thresholds)
        if gate == "speech":  # and for as long as its posterior stays high
            self._held = word
        if gate != "event":
            return None
        self._held, self._blocked_until = word, step + self._refractory
        return Event(
            self.words[word],
            start_s=self.step_s * (onset + 1),
            end_s=self.step_s * min(step + 1, reached + 2),
            score=score,
            t=self.step_s * (step + 1),
        )

    def flush(self) -> list[Event]:
        """End the stream: decide the pending steps."""
        events = self._decide_pending()
        self._log.close(self._thresholds)
        return events

    def explain(self, t_s: float, within_s: float = 0.5) -> list[Verdict]:
        """The events and near misses around a moment of the last minutes."""
        self._settle()
        return [
            v
            for v in self._log.all(self._thresholds)
            if v.start_s <= t_s + within_s and v.end_s >= t_s - within_s
        ]

    def near_misses(self, since_s: float = 0.0) -> list[Verdict]:
        """The near misses that ended after `since_s`."""
        self._settle()
        return [v for v in self._log.closed() if v.end_s > since_s and v.gate != "event"]

    def _settle(self) -> None:
        """Decide the pending steps, which are too quiet for an event."""
        events = self._decide_pending()
        assert not events

    def _gate(self, word: int, step: int, sustained_steps: int, against: int) -> Gate:
        if sustained_steps < 1:
            return "threshold"
        if sustained_steps < self.duration_steps:
            return "duration"
        if self._held == word:
            return "held"
        if step < self._blocked_until:
            return "refractory"
        if against == SILENT:
            return "silence"
        return "event" if against == CLEAR else "speech"


def _as_slice(columns: list[int]) -> slice | NDArray[np.int64]:
    """Columns by number, as a slice if they are adjacent, which is faster."""
    if columns and columns == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[0] + len(columns))
    return np.array(columns, np.int64)
