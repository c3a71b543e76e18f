"""The detector: a stream's posteriors to events, and the reasons where there is none."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from speechgru.common.settings import Settings
from speechgru.decoding.events import Event
from speechgru.errors import UsageError
from speechgru.labels import UNKNOWN, Vocabulary

#: What decides, in this order: a word that passed them all is an event.
Gate = Literal["threshold", "duration", "held", "refractory", "speech", "event"]
_ORDER: dict[Gate, int] = {gate: order for order, gate in enumerate(get_args(Gate))}

#: From this share of its threshold on, a word is nearly recognized.
NEAR = 0.5
#: A word begins where its posterior rises over this.
ONSET = 0.1
#: Posteriors are counted in whole parts of this: the sum of a window is exact in any order.
PARTS = 2.0**32
#: Blocks of so many steps or fewer are quicker one step after the other.
_FEW_STEPS = 8
#: Quiet steps that wait to be decided together.
_MOST_WAITING = 50
#: Verdicts that are kept for explanations.
MOST_VERDICTS = 256


class DetectorConfig(Settings):
    """When a word is an event; a model's file may hold its own under `decoder`."""

    #: The posteriors' mean over this long decides (Chen, Parada and Heigold, 2014).
    smoothing_s: float = Field(0.2, ge=0.0, le=2.0)
    #: Smoothed posterior that a word needs, and words that need another one.
    threshold: float = Field(0.5, gt=0.0, le=1.0)
    thresholds: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(default_factory=dict)
    #: For how long it must stay there.
    min_duration_s: float = Field(0.1, ge=0.0, le=2.0)
    #: No event follows another one sooner.
    refractory_s: float = Field(0.5, ge=0.0, le=10.0)
    #: A word can fire again once it has fallen below this share of its threshold: a recurrent
    #: network may go on answering the last word for as long as nothing else is said.
    release: float = Field(0.8, gt=0.0, le=1.0)
    #: The highest mean of `_unknown_`'s posterior over the last `unknown_s` before an event: where
    #: other words lead up to it without a pause, it is a piece of what is being said. 1 allows all.
    most_unknown: float = Field(1.0, ge=0.0, le=1.0)
    unknown_s: float = Field(0.5, ge=0.0, le=10.0)

    def needed(self, word: str) -> float:
        """The threshold of a word."""
        return self.thresholds.get(word, self.threshold)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stretch in which one word was at least nearly recognized, and how far it came.

    `gate` held it, or is "event"; `score` is the highest smoothed posterior, reached at `t`.
    """

    word: str
    start_s: float
    end_s: float
    t: float
    score: float
    threshold: float
    gate: Gate


@dataclass(slots=True)
class _Stretch:
    """A verdict that goes on: by index, and changed in place, as it is at every step."""

    word: int
    start_s: float
    end_s: float
    t: float
    score: float
    gate: Gate


class Detector:
    """Fires an event when a word's smoothed posterior stays over its threshold.

    Silence, unknown and blank never fire. The result is the same in any chunking.

    Args:
        labels: the V labels, in the order of the log-posteriors.
        step_s: seconds from one step to the next.

    Raises:
        UsageError: a threshold is for a word that the labels do not have, or out of range.
    """

    def __init__(
        self, labels: Sequence[str], step_s: float, config: DetectorConfig | None = None
    ) -> None:
        self.config = config or DetectorConfig()
        self.labels = tuple(labels)
        self.words = Vocabulary(self.labels).words
        self.step_s = step_s
        self._ids = _columns([self.labels.index(word) for word in self.words])
        for word, threshold in self.config.thresholds.items():
            if word not in self.words or not 0 < threshold <= 1:
                raise UsageError(
                    f"threshold {word}={threshold:g}: a word of the model ({', '.join(self.words)})"
                    " and a number above 0 and up to 1 are needed"
                )
        self._window = max(1, round(self.config.smoothing_s / step_s))
        self._needed = [self.config.needed(word) for word in self.words]
        #: The same in parts: of one posterior, and of a window's sum.
        self._raw_limits = [PARTS * needed for needed in self._needed]
        self._sum_limits = [self._window * limit for limit in self._raw_limits]
        self._near_limits = [NEAR * limit for limit in self._sum_limits]
        lowest = min(NEAR, self.config.release)
        self._far_limits = np.array([lowest * limit for limit in self._sum_limits])
        self._quiet_bound = 0.99 * min(self._near_limits, default=0.0) / PARTS
        self._duration = max(1, round(self.config.min_duration_s / step_s))
        self._refractory = round(self.config.refractory_s / step_s)
        #: Its column; None where it decides nothing.
        self._unknown: int | None = None
        if UNKNOWN in self.labels and self.config.most_unknown < 1:
            self._unknown = self.labels.index(UNKNOWN)
        self._unknown_window = max(1, round(self.config.unknown_s / step_s))
        self._most_unknown = PARTS * self.config.most_unknown * self._unknown_window
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        zeros = [0] * len(self.words)
        #: Steps that were pushed, those of them that wait, and the first of these.
        self._steps = 0
        self._waiting: list[NDArray[np.floating]] = []
        self._step = 0
        #: The highest posterior of each step of the window, and their sum.
        self._highest = deque([0.0] * self._window, maxlen=self._window)
        self._bound = 0.0
        #: Posteriors of the last steps in parts, and their sums; before the start they count as 0.
        self._past = deque([zeros] * self._window, maxlen=self._window)
        self._sums = zeros
        #: The same of `_unknown_`, over a window of its own.
        self._past_unknown = deque([0] * self._unknown_window, maxlen=self._unknown_window)
        self._unknown_sum = 0
        #: Where each word's posterior last was below ONSET, below its threshold (raw, smoothed).
        self._low = [[-1] * len(self.words)] * 3
        self._held: int | None = None
        self._blocked_until = 0
        self._open: _Stretch | None = None
        self._verdicts: deque[Verdict] = deque(maxlen=MOST_VERDICTS)

    @property
    def time_s(self) -> float:
        """Seconds of the stream that have been decided."""
        return self._steps * self.step_s

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """The next steps, (T, V); gives the events that they settle.

        A stream's single steps wait, unseen, while no word can be near its threshold: what they
        are part of is the same in any chunking, and many steps at once take little longer than one.
        """
        self._waiting.append(log_posteriors)
        self._steps += len(log_posteriors)
        if len(log_posteriors) == 1 and self._is_quiet(log_posteriors[0, self._ids].tolist()):
            return []
        return self._catch_up()

    def _is_quiet(self, log_posteriors: list[float]) -> bool:
        """Whether no word can be near after this step of all words: by each step's likeliest.

        A word's mean over the window is at most the mean of the steps' highest posteriors.
        """
        highest = math.exp(max(log_posteriors)) if log_posteriors else 0.0
        self._bound += highest - self._highest[0]
        self._highest.append(highest)
        return self._bound < self._quiet_bound and len(self._waiting) < _MOST_WAITING

    def _catch_up(self) -> list[Event]:
        """Decide the steps that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self.words:
            self._step = self._steps
            return []
        log_posteriors = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        posteriors = PARTS * np.exp(log_posteriors[:, self._ids], dtype=np.float64)  # (T, W)
        unknown = np.zeros(len(posteriors))
        if self._unknown is not None:
            unknown = PARTS * np.exp(log_posteriors[:, self._unknown], dtype=np.float64)
        if len(posteriors) > _FEW_STEPS:
            events = self._push_many(posteriors.astype(np.int64), unknown.astype(np.int64))
        else:
            steps = zip(posteriors.tolist(), unknown.tolist(), strict=True)
            settled = (self._push_one(list(map(int, words)), int(part)) for words, part in steps)
            events = [event for event in settled if event is not None]
        self._highest.extend(max(parts) / PARTS for parts in self._past)
        self._bound = sum(self._highest)
        return events

    def _push_one(self, parts: list[int], unknown: int) -> Event | None:
        """One step's posteriors in parts, as plain lists: numpy takes longer to begin with them."""
        step = self._step
        self._step += 1
        self._unknown_sum += unknown - self._past_unknown[0]
        self._past_unknown.append(unknown)
        oldest = self._past[0]
        self._past.append(parts)
        sums = [
            total + new - old for total, new, old in zip(self._sums, parts, oldest, strict=True)
        ]
        self._sums = sums
        onset, reached, sustained = self._low
        lows = self._low = [
            [step if part < ONSET * PARTS else low for part, low in zip(parts, onset, strict=True)],
            _last_below(parts, self._raw_limits, step, reached),
            _last_below(sums, self._sum_limits, step, sustained),
        ]
        word = sums.index(max(sums))
        return self._decide(step, word, sums, [low[word] for low in lows], self._unknown_sum)

    def _push_many(self, parts: NDArray[np.int64], unknown: NDArray[np.int64]) -> list[Event]:
        """The same for many steps, (T, W) and (T,), at once."""
        sums = _moving_sums(self._past, parts)
        self._sums = sums[-1].tolist()
        of_unknown = _moving_sums(self._past_unknown, unknown)
        self._unknown_sum = int(of_unknown[-1])
        first, self._step = self._step, self._step + len(parts)
        steps = np.arange(first, self._step)[:, np.newaxis]
        below = [parts < ONSET * PARTS, parts < self._raw_limits, sums < self._sum_limits]
        lows = np.where(below, steps, np.array(self._low)[:, np.newaxis])  # (3, T, W)
        lows = np.maximum.accumulate(lows, axis=1)
        self._low = lows[:, -1].tolist()
        # Where every word is far below, as it was a step before, nothing begins or ends.
        far = np.all(sums < self._far_limits, axis=1)
        places = np.flatnonzero(~(far & np.concatenate([[False], far[:-1]])))
        best = sums[places].argmax(axis=1)
        told = (
            places + first,
            best,
            sums[places],
            lows[:, places, best].T,
            of_unknown[places],
        )
        settled = (
            self._decide(*step) for step in zip(*(column.tolist() for column in told), strict=True)
        )
        return [event for event in settled if event is not None]

    def _decide(
        self, step: int, word: int, sums: list[int], lows: list[int], unknown: int
    ) -> Event | None:
        """What becomes of a step.

        Its best word, all words' sums, where the best was low, and the sum of `_unknown_`.
        """
        held = self._held
        if held is not None and sums[held] < self.config.release * self._sum_limits[held]:
            self._held = None
        if sums[word] < self._near_limits[word]:
            if self._open is not None:
                self._close()
            return None
        onset, reached, sustained = lows
        score = sums[word] / (self._window * PARTS)
        gate = self._gate(word, step, step - sustained, unknown)
        self._note(word, step, onset + 1, score, gate)
        if gate == "speech":  # so it stays, however long its posterior does
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
        """The stream is over: what still waits is decided."""
        events = self._catch_up()
        self._close()
        return events

    def explain(self, t_s: float, within_s: float = 0.5) -> list[Verdict]:
        """What was at least nearly recognized around a moment of the last minutes, and its gate."""
        self._settle()
        known = [*self._verdicts, *([self._verdict(self._open)] if self._open else [])]
        return [v for v in known if v.start_s <= t_s + within_s and v.end_s >= t_s - within_s]

    def near_misses(self, since_s: float = 0.0) -> list[Verdict]:
        """The closed stretches that ended after `since_s` without an event."""
        self._settle()
        return [v for v in self._verdicts if v.end_s > since_s and v.gate != "event"]

    def _settle(self) -> None:
        """Decide the steps that wait, which were too quiet for an event."""
        events = self._catch_up()
        assert not events

    def _gate(self, word: int, step: int, sustained_steps: int, unknown: int) -> Gate:
        if sustained_steps < 1:
            return "threshold"
        if sustained_steps < self._duration:
            return "duration"
        if self._held == word:
            return "held"
        if step < self._blocked_until:
            return "refractory"
        return "speech" if unknown > self._most_unknown else "event"

    def _note(self, word: int, step: int, onset: int, score: float, gate: Gate) -> None:
        """Open a verdict, or carry the open one on."""
        end_s = self.step_s * (step + 1)
        run = self._open
        if run is None or run.word != word:
            self._close()
            start_s = min(self.step_s * onset, self.step_s * step)
            self._open = _Stretch(word, start_s, end_s, end_s, score, gate)
            return
        run.end_s = end_s
        if _ORDER[gate] > _ORDER[run.gate]:
            run.gate = gate
        if score > run.score:
            run.t, run.score = end_s, score

    def _verdict(self, run: _Stretch) -> Verdict:
        word, threshold = self.words[run.word], self._needed[run.word]
        return Verdict(word, run.start_s, run.end_s, run.t, run.score, threshold, run.gate)

    def _close(self) -> None:
        if self._open is not None:
            self._verdicts.append(self._verdict(self._open))
            self._open = None


def _moving_sums(past: deque[Any], new: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over a window at each new step, (T, ...), in one array; `past`, its last, moves on."""
    stretch = np.concatenate([np.array(past), new])  # (window + T, ...)
    totals = np.cumsum(stretch, axis=0)
    past.extend(stretch[-len(past) :].tolist())
    return np.asarray(totals[len(past) :] - totals[: -len(past)])


def _last_below(values: list[int], limits: list[float], step: int, before: list[int]) -> list[int]:
    """For each word this step where its value is below its limit, else what it was before."""
    return [
        step if value < limit else low
        for value, limit, low in zip(values, limits, before, strict=True)
    ]


def _columns(ids: list[int]) -> slice | NDArray[np.int64]:
    """Columns by their numbers; as a slice, which is quicker, where they lie side by side."""
    if ids and ids == list(range(ids[0], ids[0] + len(ids))):
        return slice(ids[0], ids[0] + len(ids))
    return np.array(ids, np.int64)
