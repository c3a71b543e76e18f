"""Where in a clip its word lies, by energy."""

import numpy as np
from numpy.typing import NDArray

_FRAME_S = 0.02
#: Between the clip's noise floor and its loudest frame, in decibels, a word begins at this share.
_RISE = 0.3
#: A clip whose levels differ by less than this is all word.
_ALIKE_DB = 10.0
#: What lies deeper under the loudest frame is noise, in digital silence too.
_DEEPEST_DB = 50.0
#: A pause inside a word, as before the t of "right", is no longer than this.
_PAUSE_S = 0.15


def word_span(samples: NDArray[np.floating | np.integer], rate: int) -> tuple[float, float]:
    """Start and end in seconds of the word in a clip, (S,); the whole clip if it is all alike.

    The stretch with the most energy among those whose level rises well over the clip's noise floor
    (its level in the quietest tenth), pauses inside a word bridged.
    """
    frame = round(_FRAME_S * rate)
    frames = len(samples) // frame
    if frames < 3:
        return 0.0, len(samples) / rate
    power = samples[: frames * frame].astype(np.float64).reshape(frames, frame)
    power = np.square(power).mean(axis=1)
    if not power.any():
        return 0.0, len(samples) / rate
    level_db = 10 * np.log10(np.maximum(power / power.max(), 10 ** (-_DEEPEST_DB / 10)))
    floor_db = np.quantile(level_db, 0.1)
    if floor_db > -_ALIKE_DB:
        return 0.0, len(samples) / rate
    loud = np.flatnonzero(level_db >= (1 - _RISE) * floor_db)
    breaks = np.flatnonzero(np.diff(loud) > round(_PAUSE_S / _FRAME_S) + 1)
    stretches = np.split(loud, breaks + 1)
    best = max(stretches, key=lambda stretch: power[stretch].sum())
    return float(best[0] * frame / rate), float((best[-1] + 1) * frame / rate)
