"""Gaps in a stream, where samples were lost: sound that bridges them, so that time goes on.

A gap is filled as packet loss concealment does (the idea of ITU-T G.711 Appendix I): the last pitch
period before it is repeated. In a longer gap it fades into noise with the spectrum of the quietest
moment before the gap, the background's.
"""

import numpy as np

from speechgru.audio.samples import Samples

#: Of the sound before a gap: what is remembered, and what is compared to find the pitch period.
MEMORY_S = 0.5
_COMPARED_S = 0.02
#: Pitch periods of voices: 66 to 400 Hz.
_PERIODS_S = (0.0025, 0.015)
#: A repeated period stays as loud as it was for so long, and then fades for so long.
_HOLD_S, _FADE_S = 0.02, 0.04


def fill(before: Samples, lost: int, rate: int) -> Samples:
    """Sound for a gap of `lost` samples after `before`: (lost,).

    Args:
        before: (S,) up to the gap; half a second is enough, and none gives silence.
        rate: hertz.
    """
    if not len(before):
        return np.zeros(lost, np.float32)
    period = _period(before, rate)
    hold, fade = round(_HOLD_S * rate), round(_FADE_S * rate)
    loud = np.resize(before[-period:], min(lost, hold + fade))
    if lost <= hold:
        return loud
    gain = np.clip((hold + fade - np.arange(len(loud), dtype=np.float32)) / fade, 0, 1)
    background = _background(before, lost, rate)
    background[: len(loud)] *= 1 - gain
    background[: len(loud)] += gain * loud
    return background


def _period(before: Samples, rate: int) -> int:
    """The lag, in samples, at which the end of `before` resembles what came earlier most."""
    shortest, longest = (round(period_s * rate) for period_s in _PERIODS_S)
    size = min(round(_COMPARED_S * rate), len(before) - longest)
    if size < shortest:
        return len(before)
    end = before[-size:].astype(np.float64)
    earlier = before[-size - longest : -shortest].astype(np.float64)
    products = np.correlate(earlier, end)  # at lags from the longest to the shortest
    squares = np.concatenate(([0.0], np.cumsum(earlier**2)))
    energies = squares[size:] - squares[:-size]
    likeness = products / np.sqrt(np.maximum(energies, 1e-12))
    return longest - int(np.argmax(likeness))


def _background(before: Samples, length: int, rate: int) -> Samples:
    """Noise with the spectrum of the quietest 20 ms of `before`: (length,)."""
    size = round(_COMPARED_S * rate)
    frames = before[len(before) % size :].reshape(-1, size)
    if not len(frames):
        return np.zeros(length, np.float32)
    quietest = frames[np.argmin(np.square(frames).sum(axis=1))]
    # The same samples give the same noise, so a stream can be repeated.
    rng = np.random.default_rng(length)
    cycle = 16 * size
    white = np.fft.rfft(rng.standard_normal(cycle)) / np.sqrt(cycle)
    spectrum = np.abs(np.fft.rfft(quietest, cycle)) * np.sqrt(cycle / size)
    return np.resize(np.fft.irfft(white * spectrum, cycle), length).astype(np.float32)


class GapBridge:
    """Passes a stream of samples on with its gaps filled, the same in any chunking.

    It remembers the last half second of the stream, in an array that never grows.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._memory = np.zeros(round(MEMORY_S * rate), np.float32)
        #: Where the oldest sample is, or the next one goes while there is room.
        self._place = 0
        self._is_full = False

    def push(self, samples: Samples, lost: int = 0) -> Samples:
        """The next samples, (S,), which come after `lost` others: (lost + S,)."""
        if lost:
            samples = np.concatenate([fill(self._before(), lost, self._rate), samples])
        self._remember(samples)
        return samples

    def _before(self) -> Samples:
        memory, place = self._memory, self._place
        return np.concatenate([memory[place:], memory[:place]]) if self._is_full else memory[:place]

    def _remember(self, samples: Samples) -> None:
        memory, place = self._memory, self._place
        end = place + len(samples)
        if end < len(memory):
            memory[place:end] = samples
            self._place = end
            return
        samples = samples[-len(memory) :]
        first = min(len(memory) - place, len(samples))
        memory[place : place + first] = samples[:first]
        memory[: len(samples) - first] = samples[first:]
        self._place = (place + len(samples)) % len(memory)
        self._is_full = True
