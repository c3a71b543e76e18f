"""Background noise without end, as a stream's clips are laid over it."""

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.pcm import FULL_SCALE
from speechgru.corpora.silence import NOISE_PARTS
from speechgru.corpora.split_audio import SplitAudio

#: Level of the background: root mean square, dB of full scale.
NOISE_DB = -45.0
#: Seconds to a scene: one recording, or white noise, in its place.
SCENE_S = (15.0, 45.0)


class Background:
    """The split's own part of the background recordings at `NOISE_DB`, in scenes.

    White noise where there are none.

    Args:
        rng: decides the recordings, the places in them and the lengths of the scenes.
    """

    def __init__(self, audio: SplitAudio, rng: np.random.Generator) -> None:
        self._rate = audio.packed.rate
        self._rng = rng
        self._parts = []
        for path in audio.corpus.noises:
            samples = audio.packed.samples(path)
            first, last = (round(part * len(samples)) for part in NOISE_PARTS[audio.split])
            part = samples[first:last] / FULL_SCALE
            level = np.sqrt(np.square(part).mean()) if len(part) else 0.0
            if level > 0:
                part = part * (10 ** (NOISE_DB / 20) / level)
                # Forth and back again, so that it does not jump where it begins anew.
                self._parts.append(np.concatenate([part, part[::-1]]))
        self._scene, self._place, self._left = np.zeros(1), 0, 0

    def take(self, samples: int) -> NDArray[np.float64]:
        """The next (samples,)."""
        taken = [np.zeros(0)]
        while samples > 0:
            if self._left == 0:
                self._change_scene()
            count = min(samples, self._left)
            taken.append(self._read(count))
            self._left -= count
            samples -= count
        return np.concatenate(taken)

    def _read(self, count: int) -> NDArray[np.float64]:
        if not self._parts:
            return self._rng.normal(0.0, 10 ** (NOISE_DB / 20), count)
        indices = np.arange(self._place, self._place + count) % len(self._scene)
        self._place += count
        return self._scene[indices]

    def _change_scene(self) -> None:
        self._left = round(self._rng.uniform(*SCENE_S) * self._rate)
        if self._parts:
            self._scene = self._parts[self._rng.integers(len(self._parts))]
            self._place = int(self._rng.integers(len(self._scene)))
