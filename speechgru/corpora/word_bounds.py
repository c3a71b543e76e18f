"""Where in a clip its word lies, by energy."""

import numpy as np
from numpy.typing import NDArray

from speechgru.corpora.derived import DerivedArray

_FRAME_S = 0.02
#: A word begins at this share of the way, in decibels, from the noise floor to the loudest frame.
_RISE = 0.3
#: A clip whose level varies by less than this is one long word.
_UNIFORM_DB = 10.0
#: Levels are bounded at this much below the loudest frame, so that digital silence has a level.
_RANGE_DB = 50.0
#: A pause within a word, as before the t of "right", is no longer than this.
_PAUSE_S = 0.15
#: A clip longer than this may hold a phrase: all stretches that have this share of the loudest
#: one's energy, and are as long as a syllable, belong to it.
_PHRASE_S, _ENERGY_SHARE, _SYLLABLE_S = 1.2, 0.02, 0.08
#: What `word_spans` finds in a task's clips.
SPANS = DerivedArray("spans", version=3)
#: Clips that are measured together.
_BATCH = 1024


def word_bounds_s(samples: NDArray[np.floating | np.integer], rate: int) -> tuple[float, float]:
    """Start and end in seconds of the word or phrase in a clip, (S,), as `word_spans` finds it."""
    first, last = word_spans(samples[np.newaxis], rate)[0]
    return float(first / rate), float(last / rate)


def word_spans(clips: NDArray[np.floating | np.integer], rate: int) -> NDArray[np.int64]:
    """First sample and end of the word in each clip: (N, S) -> (N, 2).

    The word is the stretch with the most energy among those well above the clip's noise floor (the
    10 % quantile of its level), including short pauses. In a longer clip it is a phrase, from the
    first such stretch to the last. It is the whole clip where the level hardly varies.
    """
    frame = round(_FRAME_S * rate)
    frames = clips.shape[1] // frame
    spans = np.tile(np.array([0, clips.shape[1]], np.int64), (len(clips), 1))
    if frames < 3:
        return spans
    is_phrase = clips.shape[1] > _PHRASE_S * rate
    for start in range(0, len(clips), _BATCH):
        part = clips[start : start + _BATCH, : frames * frame].astype(np.float32)
        part = part.reshape(len(part), frames, frame)
        power = np.einsum("nts,nts->nt", part, part, dtype=np.float64)
        found, first, last = _loudest_stretch(power, is_phrase)
        chosen = start + np.flatnonzero(found)
        spans[chosen] = frame * np.stack([first, last + 1], axis=1)[found]
    return spans


def _loudest_stretch(
    power: NDArray[np.float64], is_phrase: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Whether a word stands out, its first and its last frame, by the frames' power: (N, T)."""
    peak = np.maximum(power.max(axis=1, keepdims=True), 1e-30)
    level_db = 10 * np.log10(np.maximum(power / peak, 10 ** (-_RANGE_DB / 10)))
    floor_db = np.quantile(level_db, 0.1, axis=1, keepdims=True)
    loud = level_db >= (1 - _RISE) * floor_db
    frames = np.arange(power.shape[1])
    # A stretch begins where the last loud frame is longer ago than a pause lasts.
    last_loud = np.maximum.accumulate(np.where(loud, frames, -len(frames)), axis=1)
    before = np.pad(last_loud[:, :-1], ((0, 0), (1, 0)), constant_values=-len(frames))
    begins = loud & (frames - before > round(_PAUSE_S / _FRAME_S) + 1)
    stretch = np.where(loud, np.cumsum(begins, axis=1), 0)  # 0: in none
    width = power.shape[1] + 1
    places = stretch + width * np.arange(len(power))[:, np.newaxis]
    energy = np.bincount(places.ravel(), power.ravel(), minlength=width * len(power))
    energy = energy.reshape(len(power), width)
    best = stretch == energy[:, 1:].argmax(axis=1)[:, np.newaxis] + 1
    if is_phrase:
        size = np.bincount(places.ravel(), minlength=width * len(power)).reshape(len(power), width)
        enough = energy >= _ENERGY_SHARE * energy[:, 1:].max(axis=1, keepdims=True)
        of_phrase = enough & (size >= round(_SYLLABLE_S / _FRAME_S))
        of_phrase[:, 0] = False
        best |= np.take_along_axis(of_phrase, stretch, axis=1)
    first = best.argmax(axis=1)
    last = len(frames) - 1 - best[:, ::-1].argmax(axis=1)
    stands_out = (floor_db[:, 0] <= -_UNIFORM_DB) & power.any(axis=1)
    return stands_out, first, last
