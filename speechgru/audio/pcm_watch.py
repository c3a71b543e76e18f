"""Reports what tells that PCM is not what the options say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import MAX_CHANNELS
from speechgru.audio.levels import SILENT_DB, clipped_frames, peak_db, rms_db
from speechgru.audio.pcm import SampleFormat
from speechgru.audio.samples import check_rate
from speechgru.errors import UsageError


@dataclass(frozen=True)
class PipeFormat:
    """What raw PCM is, by the options; None where an option was not given.

    Raises:
        UsageError: an impossible rate or number of channels.
    """

    rate: int | None = None
    sample_format: SampleFormat | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_rate(self.rate)
        if self.channels is not None and not 1 <= self.channels <= MAX_CHANNELS:
            raise UsageError(f"--channels {self.channels}: 1 to {MAX_CHANNELS} are needed")

    def __str__(self) -> str:
        return (
            f"{self.sample_format or 's16le'}, {self.rate or 16_000} Hz, "
            f"channels: {self.channels or 1}"
        )


class PcmWatch:
    """Reports, once each, what tells that PCM is not what the options say.

    Silence for long; channels that cancel each other; samples at full scale or, of floats, far
    beyond; a constant near full scale, which is what unsigned samples sound like; loud white noise,
    which is what samples of another format or byte order sound like. Noise by the energy of the
    samples' differences: for white noise twice the variance, for speech at 8 kHz and more a small
    part.
    """

    WINDOW_S, SILENT_S, NOISY_WINDOWS = 0.1, 5.0, 3
    NOISE_DB, NOISE_RATIO = -20.0, 0.8
    CLIPPED_SHARE, BEYOND, QUIET_DB = 0.02, 1.5, -50.0
    CONSTANT, HIGHEST = 0.9, 1e6

    def __init__(self, pcm: PipeFormat, is_averaged: bool = False) -> None:
        self._pcm, self._is_averaged = pcm, is_averaged
        self._rate = pcm.rate or 16_000
        self._window = max(1, round(self.WINDOW_S * self._rate))
        self._waiting: list[NDArray[np.floating]] = []
        self._frames = self._silent = self._noisy = 0
        self._reported: set[str] = set()

    def push(self, frames: NDArray[np.floating]) -> list[str]:
        """The next frames, (S, channels); returns new sentences."""
        self._waiting.append(frames)
        self._frames += len(frames)
        if self._frames < self._window:
            return []
        found = np.concatenate(self._waiting)
        self._waiting, self._frames = [], 0
        windows = np.array_split(found, max(1, len(found) // self._window))
        return [sentence for window in windows for sentence in self._judge(window)]

    def _judge(self, window: NDArray[np.floating]) -> list[str]:
        finite = np.where(np.isfinite(window), window, 0.0)
        peak = float(np.abs(finite).max(initial=0.0))
        finite = np.clip(finite, -self.HIGHEST, self.HIGHEST)  # squares of more are infinite
        sentences = []
        self._silent = self._silent + len(window) if peak_db(finite) < SILENT_DB else 0
        if self._silent >= self.SILENT_S * self._rate:
            sentences += self._once(
                "silent", f"has been silent for {self.SILENT_S:g} s: is anything recorded?"
            )
        if peak > self.BEYOND:
            sentences += self._once(
                "beyond",
                f"has samples of up to {peak:.3g}, which are clipped; full scale is 1: is the "
                f"--format right ({self._pcm}), or do the floats have the values of integers?",
            )
        elif clipped_frames(finite) >= self.CLIPPED_SHARE * len(finite) and peak <= 1.0:
            sentences += self._once("clipping", "clips: lower its level where it is recorded")
        if self._is_averaged and self._cancels(finite):
            sentences += self._once(
                "cancels",
                "its channels cancel each other: their average is far quieter than the loudest "
                "one; --channel N uses one of them",
            )
        if np.abs(finite).min(initial=1.0) > self.CONSTANT and peak <= 1.0:
            sentences += self._once(
                "constant",
                f"stays near full scale: are --rate, --format and --channels right ({self._pcm})?",
            )
        self._noisy = self._noisy + 1 if self._is_noise(finite) else 0
        if self._noisy >= self.NOISY_WINDOWS:
            sentences += self._once(
                "noise",
                f"sounds like noise: are --rate, --format and --channels right ({self._pcm})?",
            )
        return sentences

    def _cancels(self, window: NDArray[np.floating]) -> bool:
        """Whether the average of the channels is 9 dB quieter than one that is not silent."""
        if window.shape[1] < 2:
            return False
        power = np.square(window).mean(axis=0).max()
        mixed = np.square(window.mean(axis=1)).mean()
        return bool(rms_db(window) > self.QUIET_DB and power >= 10**0.9 * mixed)

    def _is_noise(self, window: NDArray[np.floating]) -> bool:
        clipped = np.clip(window, -1.0, 1.0)
        if len(clipped) < 2 or rms_db(clipped) < self.NOISE_DB:
            return False
        variance = clipped.var(axis=0)
        differences = np.square(np.diff(clipped, axis=0)).mean(axis=0)
        return bool((differences > 2 * self.NOISE_RATIO * variance).all())

    def _once(self, key: str, sentence: str) -> list[str]:
        if key in self._reported:
            return []
        self._reported.add(key)
        return [sentence]
