"""MP3 files without a count of their frames: all is read, and nothing is missed."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from speechgru.audio.files import probe, read
from speechgru.audio.mp3 import open_uncounted_mp3
from speechgru.audio.samples import SAMPLE_RATE
from speechgru.errors import DataError

ID3 = b"ID3\x03\0\0" + bytes([0, 3, 0, 0]) + bytes(3 * 16_384)
AFTERWARDS = {"nothing": b"", "ID3v1": b"TAG" + bytes(125), "APE": b"APETAGEX" + bytes(3_000)}
SILENCE, NOISE = np.zeros(2 * SAMPLE_RATE), np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)
#: The first frame is smaller than most, or greater: libsndfile expects too much, or too little.
SOUNDS = {"loud at the end": (SILENCE, NOISE), "loud at first": (NOISE, SILENCE)}


def streamed(path, pieces, rate=SAMPLE_RATE):
    """Bytes as an encoder writes them into a stream: frames of all sizes, without their count."""
    soundfile.write(path, np.concatenate(pieces), rate, bitrate_mode="VARIABLE")
    content = path.read_bytes()
    return content[content.find(content[:2], 4) :]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("pieces", SOUNDS.values(), ids=SOUNDS)
def test_all_is_read(pieces, channels, rate, tmp_path):
    path = tmp_path / "a.mp3"
    pieces = [np.stack(channels * [piece], axis=1) for piece in pieces]
    path.write_bytes(streamed(path, pieces, rate))
    samples = read(path, rate)
    assert len(samples) == probe(path).frames == pytest.approx(64_000, abs=2_500)
    loud = [np.std(half) > 0.1 for half in (samples[4_000:30_000], samples[36_000:62_000])]
    assert loud == [np.any(piece) for piece in pieces]


@pytest.mark.parametrize("after", AFTERWARDS.values(), ids=AFTERWARDS)
@pytest.mark.parametrize("before", [b"", ID3, bytes(300)], ids=["nothing", "ID3v2", "zeros"])
def test_tags_are_no_sound(before, after, tmp_path):
    path = tmp_path / "a.mp3"
    frames = streamed(path, SOUNDS["loud at first"])
    path.write_bytes(frames)
    expected = read(path)
    path.write_bytes(before + frames + after)
    np.testing.assert_array_equal(read(path), expected)


def test_what_follows_damage_is_not_forgotten(tmp_path):
    path = tmp_path / "a.mp3"
    frames = streamed(path, [NOISE])
    half = len(frames) // 2
    path.write_bytes(frames[:half] + bytes(3_000) + frames[half:])
    with pytest.raises(DataError, match="cannot be decoded"):
        read(path)


def test_other_files_are_opened_as_they_are(tmp_path):
    path = tmp_path / "counted.mp3"
    soundfile.write(path, NOISE, SAMPLE_RATE)
    assert open_uncounted_mp3(path) is None
    path.write_bytes(np.random.default_rng(0).bytes(200_000))
    assert open_uncounted_mp3(path) is None


def test_a_damaged_recording_is_one_sentence(tmp_path):
    """The decoder's own messages, of which there are several, are not shown."""
    path = tmp_path / "damaged.mp3"
    soundfile.write(path, NOISE, SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    content[3_000:3_400] = bytes([0x55]) * 400
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "speechgru", "recognize", path], capture_output=True, text=True
    )
    assert done.returncode == 4
    assert done.stderr.startswith(f"error: {path}: truncated: it has ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
