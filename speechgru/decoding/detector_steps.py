"""Steps of a detector: sums over its windows, and which of many steps it has to decide."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
