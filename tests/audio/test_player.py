"""Playback on a real output: a PulseAudio sink."""

import time

import numpy as np
import pytest
import soundfile
from virtual_microphone import plug

from speechgru.audio.player import Player

__all__ = ["plug"]  # a fixture

pytestmark = pytest.mark.slow


def test_the_next_recording_does_not_wait_for_the_one_that_plays(plug, tmp_path):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 16_000), 16_000)
    player = Player()
    stopping = []
    for _ in range(3):
        player.play(path)
        time.sleep(0.3)
        start = time.monotonic()
        player.stop()
        stopping.append(time.monotonic() - start)
    assert max(stopping) < 0.4
