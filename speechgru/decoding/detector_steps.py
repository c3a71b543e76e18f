"""Steps of a detector: sums over its windows, and which of many steps it has to decide."""

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Posteriors are summed as integers, in units of 1 / UNIT, so that sums are exact in any order.
UNIT = 2.0**32
#: There is a pause where the posterior of `_silence_` reaches this.
PAUSE = 0.2


#: What a step's surroundings say of a word there: nothing against it, that silence is left within
#: it, or that other speech leads up to it.
CLEAR, SILENT, SPOKEN = 0, 1, 2


class Limit(NamedTuple):
    """The highest mean posterior of a label over so many steps, up to the last one."""

    column: int
    steps: int
    mean: float

    @property
    def total(self) -> float:
        """The highest sum, in units."""
        return UNIT * self.mean * self.steps


class Surroundings:
    """What speaks against a word at each step of a stream.

    Args:
        silence: how much silence there may be within a word; None for any.
        unknown: how much other speech may lead up to a word; None for any.
        silence_column: column of `_silence_`; None if pauses do not matter.
        pause_steps: with a pause among so many, up to the last one, other speech does not matter.
    """

    def __init__(
        self,
        silence: Limit | None,
        unknown: Limit | None,
        silence_column: int | None,
        pause_steps: int,
    ) -> None:
        self.silence, self.unknown = silence, unknown
        self.silence_column, self.pause_steps = silence_column, pause_steps
        self.reset()

    @property
    def settings(self) -> tuple[Limit | None, Limit | None, int | None, int]:
        """What it was made from."""
        return self.silence, self.unknown, self.silence_column, self.pause_steps

    def reset(self) -> None:
        """Start a new stream, before which nobody spoke."""
        self._past_silence, self._past_unknown = (
            deque([0] * limit.steps, maxlen=limit.steps) if limit else deque[int]()
            for limit in (self.silence, self.unknown)
        )
        #: Steps since the last pause.
        self._since_pause = 0

    def push(self, log_posteriors: NDArray[np.floating]) -> NDArray[np.int64]:
        """What speaks against a word at each of the next steps, (T, V): (T,)."""
        steps = len(log_posteriors)
        silence_sums = unknown_sums = np.zeros(steps, np.int64)
        if not steps:
            return silence_sums
        if self.silence:
            silences = in_units(log_posteriors[:, self.silence.column])
            silence_sums = moving_sums(self._past_silence, silences)
        if self.unknown:
            unknowns = in_units(log_posteriors[:, self.unknown.column])
            unknown_sums = moving_sums(self._past_unknown, unknowns)
        if not self.unknown or self.silence_column is None:
            return self.judged(silence_sums, unknown_sums)
        is_pause = in_units(log_posteriors[:, self.silence_column]) >= PAUSE * UNIT
        numbers = np.arange(1, steps + 1)
        last_pause = np.maximum.accumulate(np.where(is_pause, numbers, -self._since_pause))
        since_pause = numbers - last_pause
        self._since_pause = int(since_pause[-1])
        return self.judged(silence_sums, np.where(since_pause < self.pause_steps, 0, unknown_sums))

    def judged(
        self, silence_sums: NDArray[np.int64], unknown_sums: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """What sums up to a step, in units, speak against there: of the same shape."""
        against = np.full(silence_sums.shape, CLEAR, np.int64)
        if self.unknown:
            against[unknown_sums > self.unknown.total] = SPOKEN
        if self.silence:
            against[silence_sums > self.silence.total] = SILENT
        return against


def in_units(log_posteriors: NDArray[np.floating]) -> NDArray[np.int64]:
    """Posteriors as integers in units of 1 / UNIT, of the same shape."""
    return (UNIT * np.exp(log_posteriors, dtype=np.float64)).astype(np.int64)


def moving_sums(past: deque[Any], new: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over a window at each new step, (T, ...); `past`, the last window, moves on."""
    values = np.concatenate([np.array(past), new])  # (window + T, ...)
    totals = np.cumsum(values, axis=0)
    past.extend(values[-len(past) :].tolist())
    return np.asarray(totals[len(past) :] - totals[: -len(past)])


def last_below(values: list[int], limits: list[float], step: int, before: list[int]) -> list[int]:
    """For each word, this step if its value is below its limit, otherwise the earlier step."""
    return [
        step if value < limit else low
        for value, limit, low in zip(values, limits, before, strict=True)
    ]


def steps_with_words_near(sums: NDArray[np.int64], far: NDArray[np.float64]) -> NDArray[np.intp]:
    """Steps at which a word may be near its threshold, or has just ceased to be.

    Where every word's sum, of (T, W), is below its `far` limit, (W,), and was one step before,
    nothing changes.
    """
    is_far = np.all(sums < far, axis=1)
    return np.flatnonzero(~(is_far & np.concatenate([[False], is_far[:-1]])))


def steps_that_change_events(
    is_candidate: NDArray[np.bool_],
    best: NDArray[np.intp],
    is_released: NDArray[np.bool_],
    refractory_steps: int,
) -> NDArray[np.intp]:
    """Steps that may be an event, or after which a word may be one again; near misses are not.

    A word that stays the best one, and long enough above its threshold for an event, is held after
    its first step that no earlier event blocks: all further steps of this run change nothing.

    Args:
        is_candidate: whether the best word has been above its threshold for long enough, (T,).
        best: the best word, (T,).
        is_released: whether each word is below its release, (T, W).
    """
    steps = np.arange(len(best))
    goes_on = np.zeros(len(best), np.bool_)
    goes_on[1:] = is_candidate[:-1] & (best[1:] == best[:-1])
    run_starts = np.maximum.accumulate(np.where(goes_on, 0, steps))
    falls = is_released.copy()
    falls[1:] &= ~is_released[:-1]
    may_fire = is_candidate & (steps - run_starts <= refractory_steps)
    return np.flatnonzero(may_fire | falls.any(axis=1))
