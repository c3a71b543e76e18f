"""How loud a signal is, and what that says about a microphone. Decibels are of full scale."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Below this peak there is no sound: the microphone is muted. Quiet rooms are at -70 dB or more.
SILENT_DB = -80.0
#: Speech near a microphone has a peak above this.
QUIET_DB = -40.0
#: Full scale, less a few steps of 16 bits: not every converter goes further.
_FULL = 0.9995

Verdict = Literal["silent", "quiet", "clipping", "good"]


def decibels(amplitude: float) -> float:
    """An amplitude in decibels of full scale; zero is -120 dB."""
    return 20.0 * math.log10(max(amplitude, 1e-6))


def peak_db(frames: NDArray[np.floating]) -> float:
    """The largest sample, in decibels."""
    return decibels(float(np.abs(frames).max(initial=0.0)))


def rms_db(frames: NDArray[np.floating]) -> float:
    """The root mean square, in decibels."""
    return decibels(math.sqrt(float(np.square(frames).mean()))) if frames.size else decibels(0.0)


@dataclass
class SignalWatch:
    """Reports, once each, that a microphone is silent and that it clips.

    Args:
        rate: frames a second.
        silent_s: how long it must be silent.
        clipped_share: share of a second's frames that must be at full scale.
    """

    rate: int
    silent_s: float = 5.0
    clipped_share: float = 0.002
    _silent_frames: int = 0
    _frames: int = 0
    _clipped: int = 0
    _reported: set[str] = field(default_factory=set)

    def push(self, frames: NDArray[np.floating]) -> list[str]:
        """The next frames, (S, channels) or (S,); returns new sentences."""
        sentences = []
        silent = peak_db(frames) < SILENT_DB
        self._silent_frames = self._silent_frames + len(frames) if silent else 0
        if self._silent_frames >= self.silent_s * self.rate:
            sentences += self._once(
                "silent",
                f"has been silent for {self.silent_s:g} s: is it muted, or the wrong one? "
                "`speechgru devices --test` shows the level of each",
            )
        self._frames += len(frames)
        self._clipped += clipped_frames(frames)
        if self._frames >= self.rate:
            if self._clipped >= self.clipped_share * self._frames:
                sentences += self._once("clipping", "clips: turn down its gain, or step back")
            self._frames = self._clipped = 0
        return sentences

    def _once(self, key: str, sentence: str) -> list[str]:
        if key in self._reported:
            return []
        self._reported.add(key)
        return [sentence]


def clipped_frames(frames: NDArray[np.floating]) -> int:
    """Frames of (S, channels) or (S,) in which some channel is at full scale."""
    full = np.abs(frames) >= _FULL
    return int((full if full.ndim == 1 else full.any(axis=1)).sum())


def verdict(frames: NDArray[np.floating], clipped_share: float = 0.002) -> Verdict:
    """What the frames of a level test, in which somebody spoke, say about the microphone."""
    loudest = peak_db(frames)
    if loudest < SILENT_DB:
        return "silent"
    if clipped_frames(frames) >= clipped_share * len(frames):
        return "clipping"
    return "quiet" if loudest < QUIET_DB else "good"
