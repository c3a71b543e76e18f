"""A recognizer on a whole stream: its events, its log-posteriors, and other detectors on them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechgru.audio import Samples
from speechgru.corpora.packed import FULL_SCALE
from speechgru.decoding import Event, Tape
from speechgru.detector import Detector, DetectorConfig
from speechgru.state_policy import StatePolicy
from speechgru.streaming import Backend, Recognizer

BLOCK_S = 10.0


@dataclass(frozen=True, eq=False)
class Hearing:
    """A stream as it was heard: log-posteriors (T, V) and events."""

    labels: tuple[str, ...]
    step_s: float
    duration_s: float
    log_posteriors: NDArray[np.floating]
    events: tuple[Event, ...]

    def replay(self, config: DetectorConfig) -> list[Event]:
        """The events that another detector finds in the same log-posteriors."""
        detector = Detector(self.labels, self.step_s, config)
        return detector.push(self.log_posteriors) + detector.flush()


def hear(
    backend: Backend,
    samples: Samples | NDArray[np.int16],
    config: DetectorConfig,
    policy: StatePolicy,
    progress: Callable[[int, int], None] | None = None,
) -> Hearing:
    """Push a stream, (S,) float or 16 bits, through a recognizer: the one that `listen` runs.

    Raises:
        DataError: a sample is not finite, or the model's answer is not a number.
        UsageError: a threshold is for a word that the model does not have.
    """
    step_s = backend.step_samples / backend.sample_rate
    tape = Tape(Detector(backend.labels, step_s, config))
    recognizer = Recognizer(backend, tape, policy)
    events = []
    block = round(BLOCK_S * backend.sample_rate)
    for first in range(0, len(samples), block):
        events += recognizer.push(to_float(samples[first : first + block]))
        if progress is not None:
            progress(min(first + block, len(samples)), len(samples))
    events += recognizer.flush()
    duration_s = len(samples) / backend.sample_rate
    return Hearing(backend.labels, step_s, duration_s, tape.log_posteriors, tuple(events))


def to_float(samples: Samples | NDArray[np.int16]) -> Samples:
    """Samples in [-1, 1], from 16 bits if they are."""
    if samples.dtype == np.int16:
        return (samples / np.float32(FULL_SCALE)).astype(np.float32, copy=False)
    return samples.astype(np.float32, copy=False)
