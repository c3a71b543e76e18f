import numpy as np
import pytest

from speechgru.audio.levels import SignalWatch, clipped_frames, peak_db, rms_db, verdict

RATE = 48_000


def tone(amplitude, seconds=1.0):
    time_s = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)


def sentences(frames, block=960):
    watch = SignalWatch(RATE)
    return [
        sentence
        for i in range(0, len(frames), block)
        for sentence in watch.push(frames[i : i + block])
    ]


def test_a_full_scale_sine_has_0_db_peak_and_minus_3_db_rms():
    assert peak_db(tone(1.0)) == pytest.approx(0.0, abs=0.01)
    assert rms_db(tone(1.0)) == pytest.approx(-3.01, abs=0.01)
    assert peak_db(tone(0.1)) == pytest.approx(-20.0, abs=0.01)
    assert peak_db(np.zeros(10, np.float32)) == rms_db(np.zeros(0, np.float32)) == -120.0


def test_lasting_silence_is_reported_once():
    assert sentences(np.zeros(4 * RATE, np.float32)) == []
    reported = sentences(np.zeros(30 * RATE, np.float32))
    assert len(reported) == 1
    assert "silent for 5 s" in reported[0]


def test_quiet_rooms_and_pauses_are_not_silence():
    hiss = np.random.default_rng(0).normal(0.0, 10 ** (-65 / 20), 10 * RATE).astype(np.float32)
    assert sentences(hiss) == []
    pauses = np.concatenate([np.zeros(4 * RATE, np.float32), tone(0.1, 0.1)] * 4)
    assert sentences(pauses) == []


def test_clipping_is_reported_once():
    reported = sentences(np.clip(tone(3.0, 5.0), -1.0, 1.0))
    assert len(reported) == 1
    assert "clips" in reported[0]


def test_loud_tones_and_clicks_are_not_clipping():
    assert sentences(tone(0.99, 5.0)) == []
    click = tone(0.3, 5.0)
    click[1_000:1_010] = 1.0
    assert sentences(click) == []


def test_a_frame_is_clipped_where_one_channel_is():
    frames = np.array([[0.1, 1.0], [-1.0, 0.2], [0.9, 0.9]], np.float32)
    assert clipped_frames(frames) == 2


@pytest.mark.parametrize(
    ("amplitude", "sentence"), [(0.0, "silent"), (0.003, "quiet"), (0.3, "good"), (4.0, "clipping")]
)
def test_the_verdict_of_a_level_test(amplitude, sentence):
    assert verdict(np.clip(tone(amplitude), -1.0, 1.0)) == sentence
