"""Real files of every kind: what is heard stays the same, what is broken is named."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from speechgru.audio.files import SAMPLE_RATE, decode, fit, loudest_start, probe, read, to_mono
from speechgru.errors import DataError

RANDOM = np.random.default_rng(0)


def tone(hertz: float, rate: int = SAMPLE_RATE, seconds: float = 1.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def strongest_hertz(samples: NDArray[np.floating], rate: int = SAMPLE_RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def written(
    path: Path, samples: NDArray[np.floating], rate: int = SAMPLE_RATE, subtype: str | None = None
) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype", "bits"),
    [
        ("wav", "PCM_U8", 8),
        ("wav", "PCM_16", 16),
        ("wav", "PCM_24", 24),
        ("wav", "PCM_32", 24),
        ("wav", "FLOAT", 24),
        ("wav", "DOUBLE", 24),
        ("flac", "PCM_16", 16),
        ("flac", "PCM_24", 24),
        ("aiff", "PCM_24", 24),
    ],
)
def test_every_depth_gives_the_samples_to_its_last_bit(tmp_path, suffix, subtype, bits):
    samples = RANDOM.uniform(-0.99, 0.99, 4_000)
    heard = read(written(tmp_path / f"a.{suffix}", samples, subtype=subtype))
    assert heard.dtype == np.float32
    assert heard.shape == samples.shape
    np.testing.assert_allclose(heard, samples, atol=1.01 * 2.0 ** (1 - bits))


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III")]
)
def test_lossy_files_keep_a_tone(tmp_path, suffix, subtype):
    heard = read(written(tmp_path / f"a.{suffix}", tone(440), subtype=subtype))
    assert strongest_hertz(heard) == pytest.approx(440, abs=1)
    assert len(heard) == pytest.approx(SAMPLE_RATE, rel=0.1)


def test_floating_point_beyond_full_scale_is_clipped(tmp_path):
    heard = read(written(tmp_path / "a.wav", 4 * tone(440), subtype="FLOAT"))
    assert heard.max() == 1.0
    assert heard.min() == -1.0
    np.testing.assert_allclose(heard, np.clip(4 * tone(440), -1, 1), atol=1e-6)


def test_channels_are_averaged(tmp_path):
    channels = RANDOM.uniform(-0.9, 0.9, (4_000, 2))
    heard = read(written(tmp_path / "a.wav", channels, subtype="FLOAT"))
    np.testing.assert_allclose(heard, channels.mean(axis=1), atol=1e-6)
    opposed = np.stack([tone(440), -tone(440)], axis=1)
    assert np.abs(read(written(tmp_path / "b.wav", opposed, subtype="FLOAT"))).max() < 1e-6


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_frequency_level_and_duration(tmp_path, rate):
    heard = read(written(tmp_path / "a.wav", tone(1_000, rate, 2.0), rate))
    assert len(heard) == pytest.approx(2 * SAMPLE_RATE, abs=1)
    assert strongest_hertz(heard) == pytest.approx(1_000, abs=0.6)
    middle = heard[8_000:24_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_resampling_lets_nothing_fold_back(tmp_path):
    """12 kHz is above half of 16 kHz: it must vanish, not turn up at 4 kHz."""
    heard = read(written(tmp_path / "a.wav", tone(12_000, 48_000), 48_000))
    assert np.abs(heard[1_000:-1_000]).max() < 1e-3


def test_another_rate_than_16_khz_can_be_asked_for(tmp_path):
    path = written(tmp_path / "a.wav", tone(1_000))
    assert strongest_hertz(read(path, 8_000), 8_000) == pytest.approx(1_000, abs=1)


def test_ten_minutes_are_read_whole(tmp_path):
    rate = 8_000
    long = written(tmp_path / "long.flac", np.tile(tone(440, rate), 600), rate)
    assert probe(long).duration_s == 600
    heard = read(long)
    assert len(heard) == 600 * SAMPLE_RATE
    assert strongest_hertz(heard[-SAMPLE_RATE:]) == pytest.approx(440, abs=1)


def test_the_header_is_told_without_decoding(tmp_path):
    path = written(tmp_path / "a.wav", RANDOM.uniform(-1, 1, (1_200, 2)), 48_000, "PCM_24")
    info = probe(path)
    assert (info.rate, info.channels, info.frames, info.subtype) == (48_000, 2, 1_200, "PCM_24")
    assert info.duration_s == 0.025


def test_decode_leaves_rate_and_channels_alone(tmp_path):
    channels = RANDOM.uniform(-2, 2, (1_200, 2)).astype(np.float32)
    frames, rate = decode(written(tmp_path / "a.wav", channels, 48_000, "FLOAT"))
    assert rate == 48_000
    np.testing.assert_array_equal(frames, channels)


def broken(path: Path) -> Path:
    """A file that is broken in the way its name says."""
    whole = written(path.with_name(f"whole{path.suffix}"), RANDOM.uniform(-0.5, 0.5, 16_000))
    content = whole.read_bytes()
    if path.stem == "empty":
        content = b""
    elif path.stem == "half":
        content = content[: len(content) // 2]
    elif path.stem == "header-only":
        content = content[:44]
    elif path.stem == "header-cut":
        content = content[:20]
    elif path.stem == "text":
        content = b"yes, no, up, down\n" * 100
    elif path.stem == "random":
        content = RANDOM.bytes(5_000)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.wav", "empty file (0 bytes)"),
        ("header-only.wav", "0 samples"),
        ("header-cut.wav", "not a readable audio file"),
        ("half.wav", "truncated: 16022 of 32044 bytes"),
        ("half.aiff", "truncated"),
        ("half.flac", "cannot be decoded"),
        ("text.wav", "not a readable audio file"),
        ("text.mp3", "not a readable audio file"),
        ("random.flac", "not a readable audio file"),
    ],
)
def test_a_broken_file_is_named_in_one_sentence(tmp_path, name, said):
    path = broken(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("unknown", [0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF])
def test_a_length_that_the_writer_could_not_know_is_no_truncation(tmp_path, unknown):
    """What a program that writes WAV into a pipe leaves in the header."""
    path = written(tmp_path / "a.wav", tone(440), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", min(unknown + 36, 0xFFFFFFFF))
    content[40:44] = struct.pack("<I", unknown)
    path.write_bytes(content)
    np.testing.assert_allclose(read(path), tone(440), atol=1e-4)


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"is a directory; an audio file is needed"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"nothing\.wav: cannot be read: No such file"):
        probe(tmp_path / "nothing.wav")
    with pytest.raises(DataError, match=r"nothing\.wav: cannot be read"):
        probe(written(tmp_path / "a.wav", tone(440)) / "nothing.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named_with_its_place(tmp_path, value):
    samples = tone(440).astype(np.float32)
    samples[1_234] = value
    path = written(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"a\.wav: sample 1234 is {value}"):
        read(path)


def test_an_array_is_made_mono_as_a_file_is():
    channels = RANDOM.uniform(-2, 2, (480, 3))
    np.testing.assert_allclose(
        to_mono(channels, SAMPLE_RATE, SAMPLE_RATE), np.clip(channels.mean(axis=1), -1, 1), 1e-6
    )
    assert len(to_mono(channels[:, 0], 48_000, 16_000)) == 160
    with pytest.raises(DataError, match="microphone: sample 0 is nan"):
        to_mono(np.array([np.nan]), SAMPLE_RATE, SAMPLE_RATE, "microphone")


def test_fit_pads_at_the_end_and_keeps_the_loudest_stretch():
    short = tone(440)[:100].astype(np.float32)
    np.testing.assert_array_equal(fit(short, 300), np.concatenate([short, np.zeros(200)]))
    quiet = 0.01 * RANDOM.standard_normal(1_000).astype(np.float32)
    quiet[400:500] += 0.9
    start = loudest_start(quiet, 100)
    assert abs(start - 400) <= 1
    np.testing.assert_array_equal(fit(quiet, 100), quiet[start : start + 100])
    np.testing.assert_array_equal(fit(quiet, 1_000), quiet)


def test_the_loudest_stretch_is_found_as_by_trying_each():
    samples = RANDOM.standard_normal(300).astype(np.float32)
    energies = [np.sum(samples[i : i + 50].astype(float) ** 2) for i in range(251)]
    assert loudest_start(samples, 50) == int(np.argmax(energies))
