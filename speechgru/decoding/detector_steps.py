"""Steps of a detector: sums over its windows, and which of many steps it has to decide."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Posteriors are summed as integers, in units of 1 / UNIT, so that sums are exact in any order.
UNIT = 2.0**32
#: There is a pause where the posterior of `_silence_` reaches this.
PAUSE = 0.2


class SpeechBefore:
    """How much of a stream was other speech before each step, unless there was a pause.

    Args:
        unknown_column: column of `_unknown_`; None if other speech does not matter.
        silence_column: column of `_silence_`; None if pauses do not matter.
        window_steps: so many steps are summed, up to the last one.
        pause_steps: with a pause among so many, up to the last one, the sum counts as 0.
    """

    def __init__(
        self,
        unknown_column: int | None,
        silence_column: int | None,
        window_steps: int,
        pause_steps: int,
    ) -> None:
        self.unknown_column, self.silence_column = unknown_column, silence_column
        self.window_steps, self.pause_steps = window_steps, pause_steps
        self.reset()

    @property
    def settings(self) -> tuple[int | None, int | None, int, int]:
        """What it was made from."""
        return self.unknown_column, self.silence_column, self.window_steps, self.pause_steps

    def reset(self) -> None:
        """Start a new stream, before which nobody spoke."""
        self._past = deque([0] * self.window_steps, maxlen=self.window_steps)
        #: Steps since the last pause.
        self._since_pause = 0

    def push(self, log_posteriors: NDArray[np.floating]) -> NDArray[np.int64]:
        """For each of the next steps, (T, V), the sum of `_unknown_` in units: (T,)."""
        if self.unknown_column is None or not len(log_posteriors):
            return np.zeros(len(log_posteriors), np.int64)
        sums = moving_sums(self._past, in_units(log_posteriors[:, self.unknown_column]))
        if self.silence_column is None:
            return sums
        is_pause = in_units(log_posteriors[:, self.silence_column]) >= PAUSE * UNIT
        steps = np.arange(1, len(sums) + 1)
        last_pause = np.maximum.accumulate(np.where(is_pause, steps, -self._since_pause))
        since_pause = steps - last_pause
        self._since_pause = int(since_pause[-1])
        return np.where(since_pause < self.pause_steps, 0, sums)


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
