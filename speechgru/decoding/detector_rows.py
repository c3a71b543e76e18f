"""Detectors of many streams of one model, stepped together."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speechgru.decoding.detector import ONSET, UNIT, Detector
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
            "unknown": (detector.unknown_steps,),
            "unknown_sum": (),
            "step": (),
        }
        self._arrays = {name: np.zeros((_ROWS, *size), np.int64) for name, size in shape.items()}
        #: What posteriors and sums are compared with: for `last_low`, and for a near miss.
        self._limits = np.zeros((_ROWS, 3, words))
        self._near_limits = np.zeros((_ROWS, words))
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
            and detector.unknown_steps == like.unknown_steps
            and detector.unknown_column == like.unknown_column
        )

    def put(self, row: int, detector: Detector) -> None:
        """Give a row to a detector that has seen nothing yet."""
        while row >= len(self._detectors):
            self._double()
        for array in self._arrays.values():
            array[row] = 0
        self._arrays["last_low"][row] = -1
        self._limits[row, 0] = ONSET * UNIT
        self._limits[row, 1:] = detector.step_limits, detector.sum_limits
        self._near_limits[row] = detector.near_limits
        self._active[row] = False
        self._detectors[row] = detector

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
        events: dict[int, list[Event]] = {}
        like = self._like
        posteriors = _units(log_posteriors[:, :, like.columns])  # (N, T, W)
        unknown = None
        if like.unknown_column is not None:
            unknown = _units(log_posteriors[:, :, like.unknown_column])  # (N, T)
        for t in range(posteriors.shape[1]):
            new_unknown = None if unknown is None else unknown[:, t]
            self._push_step(rows, posteriors[:, t], new_unknown, events)
        return events

    def _push_step(
        self,
        rows: NDArray[np.intp],
        posteriors: NDArray[np.int64],
        unknown: NDArray[np.int64] | None,
        events: dict[int, list[Event]],
    ) -> None:
        arrays = self._arrays
        step = arrays["step"][rows]
        sums = arrays["sums"][rows] + posteriors
        past, place = arrays["past"], step % self._like.window_steps
        sums -= past[rows, place]
        past[rows, place] = posteriors
        arrays["sums"][rows] = sums
        if unknown is not None:
            past, place = arrays["unknown"], step % self._like.unknown_steps
            arrays["unknown_sum"][rows] += unknown - past[rows, place]
            past[rows, place] = unknown
        values = np.stack((posteriors, posteriors, sums), axis=1)  # (N, 3, W)
        below = values < self._limits[rows]
        last_low = np.where(below, step[:, np.newaxis, np.newaxis], arrays["last_low"][rows])
        arrays["last_low"][rows] = last_low
        arrays["step"][rows] = step + 1
        best = sums.argmax(axis=1)
        each = np.arange(len(rows))
        is_near = sums[each, best] >= self._near_limits[rows, best]
        for n in np.flatnonzero(is_near | self._active[rows]).tolist():
            row, word = int(rows[n]), int(best[n])
            detector = self._detectors[row]
            assert detector is not None
            event = detector.decide(
                int(step[n]),
                word,
                sums[n].tolist(),
                last_low[n, :, word].tolist(),
                int(arrays["unknown_sum"][row]),
            )
            self._active[row] = detector.is_active
            if event is not None:
                events.setdefault(n, []).append(event)

    def _double(self) -> None:
        self._arrays = {name: _doubled(array) for name, array in self._arrays.items()}
        self._limits = _doubled(self._limits)
        self._near_limits = _doubled(self._near_limits)
        self._active = _doubled(self._active)
        self._detectors += [None] * len(self._detectors)


def _units(log_posteriors: NDArray[np.float32]) -> NDArray[np.int64]:
    return (UNIT * np.exp(log_posteriors, dtype=np.float64)).astype(np.int64)


def _doubled(array: NDArray[_T]) -> NDArray[_T]:
    return np.concatenate([array, np.zeros_like(array)])
