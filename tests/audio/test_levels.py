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
        said for i in range(0, len(frames), block) for said in watch.push(frames[i : i + block])
    ]


def test_a_full_scale_sine_peaks_at_0_db_and_has_3_db_less_on_average():
    assert peak_db(tone(1.0)) == pytest.approx(0.0, abs=0.01)
    assert rms_db(tone(1.0)) == pytest.approx(-3.01, abs=0.01)
    assert peak_db(tone(0.1)) == pytest.approx(-20.0, abs=0.01)
    assert peak_db(np.zeros(10, np.float32)) == rms_db(np.zeros(0, np.float32)) == -120.0


def test_only_silence_is_told_once_and_after_a_while():
    assert sentences(np.zeros(4 * RATE, np.float32)) == []
    told = sentences(np.zeros(30 * RATE, np.float32))
    assert len(told) == 1
    assert "silent for 5 s" in told[0]


def test_a_quiet_room_is_not_silence_and_sound_begins_the_count_anew():
    hiss = np.random.default_rng(0).normal(0.0, 10 ** (-65 / 20), 10 * RATE).astype(np.float32)
    assert sentences(hiss) == []
    pauses = np.concatenate([np.zeros(4 * RATE, np.float32), tone(0.1, 0.1)] * 4)
    assert sentences(pauses) == []


def test_clipping_is_told_once():
    told = sentences(np.clip(tone(3.0, 5.0), -1.0, 1.0))
    assert len(told) == 1
    assert "clips" in told[0]


def test_a_loud_tone_and_a_single_click_are_no_clipping():
    assert sentences(tone(0.99, 5.0)) == []
    click = tone(0.3, 5.0)
    click[1_000:1_010] = 1.0
    assert sentences(click) == []


def test_a_frame_is_clipped_where_one_channel_is():
    frames = np.array([[0.1, 1.0], [-1.0, 0.2], [0.9, 0.9]], np.float32)
    assert clipped_frames(frames) == 2


@pytest.mark.parametrize(
    ("amplitude", "said"), [(0.0, "silent"), (0.003, "quiet"), (0.3, "good"), (4.0, "clipping")]
)
def test_the_verdict_of_a_level_test(amplitude, said):
    assert verdict(np.clip(tone(amplitude), -1.0, 1.0)) == said
