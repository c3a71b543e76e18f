"""How loud a signal is, and what its level says is wrong with it. Decibels are of full scale."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Below this peak there is no sound: a muted or absent microphone; quiet rooms are at -70 or more.
SILENT_DB = -80.0
#: A recording whose loudest moment lies below this is too quiet for speech near a microphone.
QUIET_DB = -40.0
#: As far as converters go: full scale but for the last few of 16 bits' steps.
_FULL = 0.9995

Verdict = Literal["silent", "quiet", "clipping", "good"]


def decibels(amplitude: float) -> float:
    """Of full scale; zero is -120."""
    return 20.0 * math.log10(max(amplitude, 1e-6))


def peak_db(frames: NDArray[np.floating]) -> float:
    """The largest sample."""
    return decibels(float(np.abs(frames).max(initial=0.0)))


def rms_db(frames: NDArray[np.floating]) -> float:
    """The root of the mean square."""
    return decibels(math.sqrt(float(np.square(frames).mean()))) if frames.size else decibels(0.0)


@dataclass
class SignalWatch:
    """Hears a microphone's frames, and says once each that it is silent or that it clips.

    Args:
        rate: frames a second.
        silent_s: silence as long as this is told.
        clipped_share: of the last second's frames, so many at full scale are told.
    """

    rate: int
    silent_s: float = 5.0
    clipped_share: float = 0.002
    _silent_frames: int = 0
    _frames: int = 0
    _clipped: int = 0
    _told: set[str] = field(default_factory=set)

    def push(self, frames: NDArray[np.floating]) -> list[str]:
        """The next frames, (S, channels) or (S,); gives sentences that are new."""
        said = []
        silent = peak_db(frames) < SILENT_DB
        self._silent_frames = self._silent_frames + len(frames) if silent else 0
        if self._silent_frames >= self.silent_s * self.rate:
            said += self._once(
                "silent",
                f"has given only silence for {self.silent_s:g} s: is it muted, or the wrong one? "
                "`speechgru devices --test` shows each one's level",
            )
        self._frames += len(frames)
        self._clipped += clipped_frames(frames)
        if self._frames >= self.rate:
            if self._clipped >= self.clipped_share * self._frames:
                said += self._once("clipping", "clips: turn its gain down, or step back")
            self._frames = self._clipped = 0
        return said

    def _once(self, key: str, sentence: str) -> list[str]:
        if key in self._told:
            return []
        self._told.add(key)
        return [sentence]


def clipped_frames(frames: NDArray[np.floating]) -> int:
    """Frames of (S, channels) or (S,) in which some channel is at full scale."""
    full = np.abs(frames) >= _FULL
    return int((full if full.ndim == 1 else full.any(axis=1)).sum())


def verdict(frames: NDArray[np.floating], clipped_share: float = 0.002) -> Verdict:
    """What a level test's frames say of the microphone, if someone spoke into it."""
    loudest = peak_db(frames)
    if loudest < SILENT_DB:
        return "silent"
    if clipped_frames(frames) >= clipped_share * len(frames):
        return "clipping"
    return "quiet" if loudest < QUIET_DB else "good"
