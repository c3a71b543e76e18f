"""Detectors of many streams of one model, stepped together."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speechgru.decoding.detector import ONSET, Detector
from speechgru.decoding.detector_steps import PAUSE, UNIT, Limit, in_units
from speechgru.decoding.events import Event

#: Rows allocated at first; doubled when needed.
_ROWS = 8

_T = TypeVar("_T", bound=np.generic)


class DetectorRows:
    """Pushes a step of many streams to their detectors with as many numpy calls as for one.

    The windows over posteriors are held here, one row per stream. A detector is only called for
    steps in which one of its words is near its threshold, or was; its events are those of its own
    `push`.

    Args:
        detector: has the settings that all detectors share: everything except thresholds.
    """

    def __init__(self, detector: Detector) -> None:
        self._like = detector
        words = len(detector.words)
        shape = {
            "past": (detector.window_steps, words),
            "sums": (words,),
            "last_low": (3, words),
            "silence": (_steps(detector.surroundings.silence),),
            "silence_sum": (),
            "unknown": (_steps(detector.surroundings.unknown),),
            "unknown_sum": (),
            "last_pause": (),
            "step": (),
        }
        self._arrays = {name: np.zeros((_ROWS, *size), np.int64) for name, size in shape.items()}
        #: What posteriors and sums are compared with: for `last_low`, and for a near miss.
        self._limits = np.zeros((_ROWS, 3, words))
        self._near_limits = np.zeros((_ROWS, words))
        #: For how many steps a word has to be above its threshold to be of interest.
        self._least_steps = np.zeros(_ROWS, np.int64)
        #: Rows whose detector has to see the next step, near a threshold or not.
        self._active = np.zeros(_ROWS, np.bool_)
        self._detectors: list[Detector | None] = [None] * _ROWS

    def fits(self, detector: Detector) -> bool:
        """Whether a detector can have a row: its settings differ in thresholds only."""
        like = self._like
        return (
            detector.labels == like.labels
            and bool(detector.words)
            and detector.window_steps == like.window_steps
            and detector.surroundings.settings == like.surroundings.settings
        )

    def put(self, row: int, detector: Detector) -> None:
        """Give a row to a detector that has seen nothing yet."""
        while row >= len(self._detectors):
            self._double()
        for array in self._arrays.values():
            array[row] = 0
        self._arrays["last_low"][row] = self._arrays["last_pause"][row] = -1
        self._least_steps[row] = 0 if detector.notes_verdicts else detector.duration_steps
        self._active[row] = False
        self._detectors[row] = detector
        self.set_limits(row)

    def set_limits(self, row: int) -> None:
        """Use the thresholds of a row's detector, which may have changed."""
        detector = self._detectors[row]
        assert detector is not None
        self._limits[row, 0] = ONSET * UNIT
        self._limits[row, 1:] = detector.step_limits, detector.sum_limits
        self._near_limits[row] = detector.near_limits

    def free(self, row: int) -> None:
        """Forget the detector of a row."""
        if row < len(self._detectors):
            self._detectors[row] = None

    def push(
        self, rows: NDArray[np.intp], log_posteriors: NDArray[np.float32]
    ) -> dict[int, list[Event]]:
        """Push the next steps of some streams.

        Args:
            rows: (N,).
            log_posteriors: (N, T, V).

        Returns:
            The events of streams that have some, by their place in `rows`.
        """
        arrays, like, every = self._arrays, self._like, rows[:, np.newaxis]
        posteriors = in_units(log_posteriors[:, :, like.columns])  # (N, T, W)
        first = arrays["step"][rows]
        steps = first[:, np.newaxis] + np.arange(posteriors.shape[1])  # (N, T)
        sums = _moving_sums(arrays["past"], arrays["sums"], every, steps, posteriors)
        against = self._against(rows, steps, log_posteriors)
        arrays["step"][rows] = steps[:, -1] + 1

        below = np.stack((posteriors, posteriors, sums), axis=2) < self._limits[every]
        last_low = np.where(below, steps[:, :, np.newaxis, np.newaxis], -1)  # (N, T, 3, W)
        np.maximum(last_low[:, 0], arrays["last_low"][rows], out=last_low[:, 0])
        np.maximum.accumulate(last_low, axis=1, out=last_low)
        arrays["last_low"][rows] = last_low[:, -1]

        best = sums.argmax(axis=2)  # (N, T)
        places = (np.arange(len(rows))[:, np.newaxis], np.arange(steps.shape[1]))
        is_near = sums[*places, best] >= self._near_limits[every, best]
        sustained_steps = steps - last_low[*places, 2, best]
        is_near &= sustained_steps >= self._least_steps[every]
        events: dict[int, list[Event]] = {}
        for n in np.flatnonzero(is_near.any(axis=1) | self._active[rows]).tolist():
            detector = self._detectors[rows[n]]
            assert detector is not None
            found = []
            for t, near in enumerate(is_near[n].tolist()):
                if near or detector.is_active:
                    word = int(best[n, t])
                    event = detector.decide(
                        int(steps[n, t]),
                        word,
                        sums[n, t].tolist(),
                        last_low[n, t, :, word].tolist(),
                        int(against[n, t]),
                    )
                    found += [event] if event is not None else []
            self._active[rows[n]] = detector.is_active
            if found:
                events[n] = found
        return events

    def _against(
        self, rows: NDArray[np.intp], steps: NDArray[np.int64], log_posteriors: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """What `Surroundings.push` returns, for the next steps of some streams: (N, T)."""
        arrays, like, every = self._arrays, self._like.surroundings, rows[:, np.newaxis]

        def sums(name: str, limit: Limit | None) -> NDArray[np.int64]:
            if limit is None:
                return np.zeros_like(steps)
            values = in_units(log_posteriors[:, :, limit.column])
            return _moving_sums(arrays[name], arrays[f"{name}_sum"], every, steps, values)

        silence_sums = sums("silence", like.silence)
        unknown_sums = sums("unknown", like.unknown)
        if like.unknown and like.silence_column is not None:
            is_pause = in_units(log_posteriors[:, :, like.silence_column]) >= PAUSE * UNIT
            last_pause = np.where(is_pause, steps, arrays["last_pause"][every])
            np.maximum.accumulate(last_pause, axis=1, out=last_pause)
            arrays["last_pause"][rows] = last_pause[:, -1]
            unknown_sums = np.where(steps - last_pause < like.pause_steps, 0, unknown_sums)
        return like.judged(silence_sums, unknown_sums)

    def _double(self) -> None:
        self._arrays = {name: _doubled(array) for name, array in self._arrays.items()}
        self._limits = _doubled(self._limits)
        self._near_limits = _doubled(self._near_limits)
        self._least_steps = _doubled(self._least_steps)
        self._active = _doubled(self._active)
        self._detectors += [None] * len(self._detectors)


def _moving_sums(
    past: NDArray[np.int64],
    totals: NDArray[np.int64],
    every: NDArray[np.intp],
    steps: NDArray[np.int64],
    new: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Sums over the window at each new step, (N, T, ...); the windows and their sums move on.

    Args:
        past: the windows' values, (rows, window, ...), that of a step at its number modulo window.
        totals: their sums, (rows, ...).
        every: rows, (N, 1).
        steps: numbers of the new steps, (N, T).
        new: their values, (N, T, ...).
    """
    window, count = past.shape[1], new.shape[1]
    oldest = past[every, (steps[:, :1] + np.arange(min(window, count))) % window]
    leaving = np.concatenate([oldest, new], axis=1)[:, :count] if count > window else oldest
    sums = totals[every] + np.cumsum(new - leaving, axis=1)
    past[every, steps[:, -window:] % window] = new[:, -window:]
    totals[every[:, 0]] = sums[:, -1]
    return np.asarray(sums)


def _steps(limit: Limit | None) -> int:
    return limit.steps if limit else 1


def _doubled(array: NDArray[_T]) -> NDArray[_T]:
    return np.concatenate([array, np.zeros_like(array)])
