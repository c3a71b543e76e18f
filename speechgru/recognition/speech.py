"""Tells recordings of speech from recordings of anything else."""

from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import read
from speechgru.audio.samples import Samples
from speechgru.audio.sources import file_blocks
from speechgru.corpora.check import SURELY_SPEECH
from speechgru.labels import SILENCE, columns
from speechgru.recognition.backend import Backend

#: No longer part of a word's recording is searched.
_LONGEST_S = 10.0
#: Before and after it, so that a word at its border is heard to its end.
_MARGIN_S = 0.25
#: The level at which a recording is heard, as its largest sample: usual for speech.
_PEAK = 0.1
#: Speech lasts at least this long.
_SPEECH_S = 0.1
#: In noise, talk is looked for in stretches of this length, in the first minutes.
_TALK_S, _LONGEST_NOISE_S = 5.0, 300.0


class SpeechFinder:
    """How surely there is speech in a recording, whatever is said, by what a model hears in it.

    The bundled model has been trained to answer noise with silence and all speech with words. It
    may be called by several threads.

    Args:
        backend: a model with a classify head and the label `_silence_`.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._silence = columns(backend.outputs, "classify").start + backend.labels.index(SILENCE)
        self._turn = Lock()

    def in_file(self, path: Path) -> float:
        """The probability for a file.

        Raises:
            DataError: it cannot be read.
        """
        return self(read(path, self._backend.sample_rate))

    def __call__(self, samples: Samples) -> float:
        """The probability for samples at the model's rate, (S,): the largest mean over 0.1 s."""
        return float(self._probabilities(samples, _LONGEST_S).max())

    def talk_in_file(self, path: Path) -> tuple[float, float]:
        """The largest share of 5 s in which there is speech, and where these start, in seconds.

        Raises:
            DataError: it cannot be read.
        """
        rate = self._backend.sample_rate
        pieces: list[Samples] = []
        for block in file_blocks(path, rate):  # a room may have been recorded for hours
            pieces.append(block.samples)
            if sum(map(len, pieces)) >= _LONGEST_NOISE_S * rate:
                break
        has_speech = self._probabilities(np.concatenate(pieces), _LONGEST_NOISE_S) >= SURELY_SPEECH
        step_s = self._backend.step_samples / rate
        steps = min(len(has_speech), round(_TALK_S / step_s))
        shares = np.convolve(has_speech, np.full(steps, 1 / steps), "valid")
        start = int(shares.argmax())
        return float(shares[start]), max(0.0, start * step_s - _MARGIN_S)

    def _probabilities(self, samples: Samples, longest_s: float) -> NDArray[np.float64]:
        """Of speech in each stretch of 0.1 s, from step to step, with the margins."""
        rate, step = self._backend.sample_rate, self._backend.step_samples
        heard = samples[: round(longest_s * rate)]
        peak = float(np.abs(heard).max(initial=0.0))
        if not peak:
            return np.zeros(1)
        margin = round(_MARGIN_S * rate)
        padded = np.pad(heard * np.float32(_PEAK / peak), (margin, margin + -len(heard) % step))
        padded = padded[: len(padded) // step * step].astype(np.float32)
        with self._turn:  # a backend is for one thread at a time
            log_posteriors, _ = self._backend(padded, self._backend.initial_state())
        speech = 1 - np.exp(log_posteriors[:, self._silence], dtype=np.float64)
        steps = max(1, round(_SPEECH_S * rate / step))
        return np.convolve(speech, np.full(steps, 1 / steps), "valid")
