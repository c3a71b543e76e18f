"""A quiet room, and a vowel spoken in it."""

import numpy as np

RATE = 16_000


def room(seconds: float, level: float = 0.001) -> np.ndarray:
    rng = np.random.default_rng(round(seconds * 1000))
    return rng.normal(0, level, round(seconds * RATE)).astype(np.float32)


def spoken(seconds: float, peak: float = 0.3) -> np.ndarray:
    """A vowel: harmonics of 120 Hz, which swells and fades."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(3, 30))
    tone = tone * np.minimum(1, np.minimum(time, seconds - time) / 0.03)
    return (peak * tone / np.abs(tone).max()).astype(np.float32)
