"""How much a recording sounds like speech at each moment, by levels in bands."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Hertz. Thumps, hum and rumble are below the first; an "s" is high in the last.
_EDGES = (250, 350, 450, 570, 700, 840, 1_000, 1_170, 1_370, 1_600, 1_850, 2_150, 2_500, 2_900,
          3_400, 4_000, 4_800, 5_800, 7_000)  # fmt: skip
#: A band counts by how far it is above the floor, less the first and up to the second.
_LEAST_DB, _MOST_DB = 6.0, 30.0
#: Of two sounds far above it, the louder one counts a little more.
_LOUDNESS_EXPONENT = 0.15
#: The floor is the lower quartile of the whole recording and of this time around a frame, and at
#: least this share of the loudest sound.
_STEADY_S, _QUARTILE, _LOWEST = 0.8, 0.25, 1e-4
#: The floor around a frame is found at every fourth frame.
_STEP = 4
#: Hours need no more memory than minutes.
_BLOCK_FRAMES = 4_096


def speech_weights(
    samples: NDArray[np.float32] | NDArray[np.int16], rate: int, hop: int
) -> NDArray[np.float64]:
    """A weight for each frame of 2 hops, one every hop: (S,) to (frames,).

    A frame counts by the bands in which it is above the floor. Speech is so in many at a time; a
    beep, however loud, in few. What lasts, such as hum, music or a hiss, becomes the floor itself.
    """
    levels = _band_levels(samples, rate, hop)
    room = np.quantile(levels, _QUARTILE, axis=0)
    floor = np.maximum(room, _steady(levels, room, rate, hop))
    floor = np.maximum(floor, _LOWEST * np.quantile(levels, 0.999))
    with np.errstate(divide="ignore", invalid="ignore"):  # a floor of zero: digital silence
        above_db = 20 * np.log10(np.where(floor > 0, levels / floor, 0.0))
    counted = np.clip(above_db - _LEAST_DB, 0.0, _MOST_DB) * levels**_LOUDNESS_EXPONENT
    weights: NDArray[np.float64] = counted.mean(axis=1)
    return weights


def _band_levels(
    samples: NDArray[np.float32] | NDArray[np.int16], rate: int, hop: int
) -> NDArray[np.float64]:
    """The amplitude in each band: (frames, bands)."""
    window = np.hanning(2 * hop)
    hertz = np.fft.rfftfreq(2 * hop, 1 / rate)
    bands = [(hertz >= low) & (hertz < high) for low, high in pairwise(_EDGES)]
    bands = [band for band in bands if band.any()]
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * hop)[::hop]
    levels = np.empty((len(frames), len(bands)))
    for first in range(0, len(frames), _BLOCK_FRAMES):
        block = frames[first : first + _BLOCK_FRAMES].astype(np.float64)
        power = np.square(np.abs(np.fft.rfft(block * window)))
        for number, band in enumerate(bands):
            levels[first : first + len(block), number] = np.sqrt(power[:, band].mean(axis=1))
    return levels


def _steady(
    levels: NDArray[np.float64], room: NDArray[np.float64], rate: int, hop: int
) -> NDArray[np.float64]:
    """The lower quartile of the levels around each frame, with the room's around all: as levels."""
    count = round(_STEADY_S * rate / hop / _STEP) | 1
    beyond = np.broadcast_to(room, (count // 2, len(room)))
    some = np.concatenate((beyond, levels[::_STEP], beyond))
    around = np.lib.stride_tricks.sliding_window_view(some, count, axis=0)
    place = int(_QUARTILE * (count - 1))
    found = np.empty(around.shape[:2])
    for first in range(0, len(around), _BLOCK_FRAMES):
        block = around[first : first + _BLOCK_FRAMES]
        found[first : first + len(block)] = np.partition(block, place, axis=-1)[..., place]
    return np.repeat(found, _STEP, axis=0)[: len(levels)]
