"""Samples as the network takes them: mono, and the stretch of a recording with the word."""

import numpy as np
import pytest
from speech_like import spoken

from speechgru.audio.samples import SAMPLE_RATE, fit, loudest_start, to_mono
from speechgru.errors import DataError

RANDOM = np.random.default_rng(0)


def test_an_array_is_made_mono_as_a_file_is():
    channels = RANDOM.uniform(-2, 2, (480, 3))
    np.testing.assert_allclose(
        to_mono(channels, SAMPLE_RATE, SAMPLE_RATE), np.clip(channels.mean(axis=1), -1, 1), 1e-6
    )
    assert len(to_mono(channels[:, 0], 48_000, 16_000)) == 160
    with pytest.raises(DataError, match="microphone: sample 0 is nan"):
        to_mono(np.array([np.nan]), SAMPLE_RATE, SAMPLE_RATE, "microphone")


def test_fit_pads_at_the_end_and_keeps_the_stretch_with_the_word():
    short = RANDOM.uniform(-0.5, 0.5, 100).astype(np.float32)
    np.testing.assert_array_equal(fit(short, 300), np.concatenate([short, np.zeros(200)]))
    long = np.zeros(40_000, np.float32)
    long[20_000:28_000] = np.sin(0.2 * np.arange(8_000))
    start = loudest_start(long, 16_000)
    assert abs(start - 16_000) <= 320  # the word is in the middle
    np.testing.assert_array_equal(fit(long, 16_000), long[start : start + 16_000])
    np.testing.assert_array_equal(fit(long, 40_000), long)


DISTURBANCES = {
    "a thump": lambda t: 0.6 * np.exp(-t / 0.25),
    "an offset": lambda t: 0.3 * np.exp(-t / 2),
    "rumble": lambda t: 0.15 * np.sin(2 * np.pi * 20 * t) * np.exp(-t / 2),
    "hum": lambda t: 0.3 * np.sin(2 * np.pi * 50 * t),
    "a click": lambda t: 0.9 * ((t > 0.25) & (t < 0.254)) * np.sign(np.sin(16_000 * t)),
    "noise": lambda t: 0.003 * np.random.default_rng(0).standard_normal(len(t)),
    "a beep": lambda t: 0.5 * np.sin(2_000 * np.pi * t) * ((t > 0.55) & (t < 1.65)),
    "a chord": lambda t: sum(0.1 * np.sin(2 * np.pi * f * t) for f in (262, 330, 392)) * (t < 3.4),
    "hum in the band": lambda t: 0.05 * np.sin(2 * np.pi * 300 * t),
}


@pytest.mark.parametrize("disturbance", DISTURBANCES.values(), ids=DISTURBANCES.keys())
@pytest.mark.parametrize("at_s", [0.0, 1.7, 3.5])
def test_no_disturbance_wins_over_a_quiet_word(disturbance, at_s):
    time_s = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    samples = disturbance(time_s).astype(np.float32)
    first = round(at_s * SAMPLE_RATE)
    samples[first : first + SAMPLE_RATE // 2] += spoken(0.5, peak=0.05)
    for same in (samples, np.round(32_767 * samples).astype(np.int16)):
        start_s = loudest_start(same, SAMPLE_RATE) / SAMPLE_RATE
        assert start_s <= at_s + 0.03
        assert at_s + 0.5 <= start_s + 1.03


def test_the_stretch_lies_within_the_recording():
    for length in (1, 100, 161, 3_000, 15_999, 16_000):
        for samples in (np.zeros(16_000, np.float32), np.ones(16_000, np.float32)):
            assert 0 <= loudest_start(samples, length) <= 16_000 - length
