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
        for step in samples.reshape(-1, STEP):
            last = self._answer(step.astype(np.float64), last)
            answers.append(last if last.any() else self._one_hot(SILENCE))
        posteriors = 0.9 * np.stack(answers) + 0.1 / len(self.labels)
        return np.log(posteriors).astype(np.float32), {
            "layer0": last,
            "samples": samples[-1:].astype(np.float64),
        }

    def _answer(self, step, last):
        if np.square(step).mean() < 1e-4:
            return last
        power = np.square(np.abs(np.fft.rfft(step)))
        hertz = np.fft.rfftfreq(STEP, 1 / RATE)
        shares = [
            power[(hertz >= first) & (hertz <= end)].sum() / power.sum()
            for first, end in BANDS_HZ.values()
        ]
        best = int(np.argmax(shares))
        return self._one_hot(list(BANDS_HZ)[best] if shares[best] > 0.6 else UNKNOWN)

    def _one_hot(self, label):
        return np.eye(len(self.labels))[self.labels.index(label)]
