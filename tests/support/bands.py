"""A backend without a network: it hears in which band of frequencies the power lies.

As a recurrent network may, it goes on answering the last word until another one is said, or until
its state is reset.
"""

from typing import ClassVar

import numpy as np
from tones import RATE

from speechgru.decoding.factory import ModelInfo
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.recognition.backend import Backend

BANDS_HZ = {"low": (200, 450), "mid": (650, 1_200), "high": (2_000, 3_500)}
STEP = 320
_HERTZ = np.fft.rfftfreq(STEP, 1 / RATE)
#: Whether each frequency lies in each band, (161, 3).
_IN_BAND = np.stack([(a <= _HERTZ) & (b >= _HERTZ) for a, b in BANDS_HZ.values()], axis=1) * 1.0
_ONE_HOT = np.eye(2 + len(BANDS_HZ))


class BandBackend(Backend):
    """Log-posteriors of silence, unknown and the words of `BANDS_HZ`; counts what it is given.

    `layer0` is what it last answered, `samples` the last sample of all that it heard.
    """

    labels = (SILENCE, UNKNOWN, *BANDS_HZ)
    outputs: ClassVar = {"classify": labels}

    def __init__(self, **metadata):
        self.info = ModelInfo(self.labels, self.outputs, RATE, STEP, metadata)
        self.blocks = []
        self.states = []

    def initial_state(self):
        return {"layer0": np.zeros(len(self.labels)), "samples": np.zeros(1)}

    def __call__(self, samples, state):
        self.blocks.append(len(samples))
        self.states.append(state)
        last, answers = state["layer0"], []
        for answer in self._answers(samples.reshape(-1, STEP).astype(np.float64)):
            last = last if answer is None else _ONE_HOT[answer]
            answers.append(last if last.any() else _ONE_HOT[self.labels.index(SILENCE)])
        posteriors = 0.9 * np.stack(answers) + 0.1 / len(self.labels)
        return np.log(posteriors).astype(np.float32), {
            "layer0": last,
            "samples": samples[-1:].astype(np.float64),
        }

    def _answers(self, steps):
        """The label of each step by its number; None if the step is quiet."""
        answers = np.full(len(steps), None)
        loud = np.flatnonzero(np.square(steps).mean(axis=1) >= 1e-4)
        power = np.square(np.abs(np.fft.rfft(steps[loud])))
        shares = power @ _IN_BAND / power.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        first = self.labels.index(next(iter(BANDS_HZ)))
        is_word = shares[np.arange(len(best)), best] > 0.6
        answers[loud] = np.where(is_word, first + best, self.labels.index(UNKNOWN))
        return answers
