"""Background recordings: each split's part, silence cut out of them, noise under a stream."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import probe
from speechgru.audio.pcm import FULL_SCALE
from speechgru.corpora.corpus import Example
from speechgru.corpora.packed import PackedAudio
from speechgru.labels import SILENCE

#: The part of each background recording, from and to, that a split may use.
NOISE_PARTS = {"training": (0.0, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}
#: Level of the background under a stream: root mean square, in decibels of full scale.
NOISE_DB = -45.0
#: Seconds of a scene: one recording, or white noise in its place.
SCENE_S = (15.0, 45.0)


def cut_silence(
    noises: Sequence[Path], split: str, count: int, seed: int = 0, clip_s: float = 1.0
) -> tuple[Example, ...]:
    """`count` random stretches of background noise, equally many of each recording.

    Only the split's own part of a recording is used, so that no two splits share noise. Recordings
    whose part is shorter than `clip_s` are skipped; where none remains, silence is zeros.

    Raises:
        DataError: a background recording cannot be read.
    """
    places = []
    for path in noises if count else ():
        duration_s = probe(path).duration_s
        first_s, last_s = (part * duration_s for part in NOISE_PARTS[split])
        if last_s - clip_s >= first_s:
            places.append((path, first_s, last_s - clip_s))
    if not places:
        return digital_silence(count)
    random = Random(f"{seed}/{split}")
    cuts = []
    for number in range(count):
        path, first_s, last_s = places[number % len(places)]
        start_s = first_s + random.random() * (last_s - first_s)
        cuts.append(Example(path, SILENCE, SILENCE, "", start_s))
    return tuple(cuts)


def digital_silence(count: int) -> tuple[Example, ...]:
    """`count` examples of zeros."""
    return (Example(None, SILENCE, SILENCE, ""),) * count


class Background:
    """Endless noise at `NOISE_DB`: scenes of the split's part of the background recordings.

    White noise where there are no recordings.

    Args:
        rng: chooses the recordings, the places in them and the lengths of the scenes.
    """

    def __init__(
        self, packed: PackedAudio, noises: Sequence[Path], split: str, rng: np.random.Generator
    ) -> None:
        self._rate = packed.rate
        self._rng = rng
        self._recordings = []
        for path in noises:
            samples = packed.samples(path)
            first, last = (round(part * len(samples)) for part in NOISE_PARTS[split])
            part = samples[first:last] / FULL_SCALE
            level = np.sqrt(np.square(part).mean()) if len(part) else 0.0
            if level > 0:
                part = part * (10 ** (NOISE_DB / 20) / level)
                # Forwards and backwards, so that there is no jump where it repeats.
                self._recordings.append(np.concatenate([part, part[::-1]]))
        self._scene, self._position, self._remaining = np.zeros(1), 0, 0

    def take(self, samples: int) -> NDArray[np.float64]:
        """The next (samples,)."""
        pieces = [np.zeros(0)]
        while samples > 0:
            if self._remaining == 0:
                self._change_scene()
            count = min(samples, self._remaining)
            pieces.append(self._read(count))
            self._remaining -= count
            samples -= count
        return np.concatenate(pieces)

    def _read(self, count: int) -> NDArray[np.float64]:
        if not self._recordings:
            return self._rng.normal(0.0, 10 ** (NOISE_DB / 20), count)
        indices = np.arange(self._position, self._position + count) % len(self._scene)
        self._position += count
        return self._scene[indices]

    def _change_scene(self) -> None:
        self._remaining = round(self._rng.uniform(*SCENE_S) * self._rate)
        if self._recordings:
            self._scene = self._recordings[self._rng.integers(len(self._recordings))]
            self._position = int(self._rng.integers(len(self._scene)))
