"""Real files of every kind: what is heard stays the same, what is broken is named."""

import os
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from speechgru.audio.files import audio_suffixes, blocks, probe, read
from speechgru.audio.samples import SAMPLE_RATE, to_mono
from speechgru.errors import DataError, UsageError

RANDOM = np.random.default_rng(0)


def tone(hertz: float, rate: int = SAMPLE_RATE, seconds: float = 1.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def strongest_hertz(samples: NDArray[np.floating], rate: int = SAMPLE_RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def written(
    path: Path, samples: NDArray[np.floating], rate: int = SAMPLE_RATE, subtype: str | None = None
) -> Path:
    format_ = "NIST" if path.suffix == ".sph" else None
    soundfile.write(path, samples, rate, subtype=subtype, format=format_)
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
def test_samples_are_exact_to_the_last_bit(tmp_path, suffix, subtype, bits):
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


def test_resampling_does_not_alias(tmp_path):
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


def test_probe_reads_the_header(tmp_path):
    path = written(tmp_path / "a.wav", RANDOM.uniform(-1, 1, (1_200, 2)), 48_000, "PCM_24")
    info = probe(path)
    assert (info.rate, info.channels, info.frames, info.subtype) == (48_000, 2, 1_200, "PCM_24")
    assert info.duration_s == 0.025


def test_blocks_keep_rate_and_channels(tmp_path):
    channels = RANDOM.uniform(-2, 2, (1_200, 2)).astype(np.float32)
    path = written(tmp_path / "a.wav", channels, 48_000, "FLOAT")
    decoded = list(blocks(path, 0.01))
    assert {rate for _, rate in decoded} == {48_000}
    np.testing.assert_array_equal(np.concatenate([frames for frames, _ in decoded]), channels)


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
    ("name", "problem"),
    [
        ("empty.wav", "empty file (0 bytes)"),
        ("header-only.wav", "truncated: it has 44 of 32044 bytes"),
        ("header-cut.wav", "not a readable audio file"),
        ("half.wav", "truncated: it has 16022 of 32044 bytes"),
        ("half.aiff", "truncated"),
        ("half.flac", "cannot be decoded"),
        ("half.sph", "truncated: it has 16512 of 33024 bytes"),
        ("half.voc", "truncated"),
        ("header-only.mp3", "not a readable audio file: it is damaged"),
        ("text.wav", "not a readable audio file"),
        ("text.mp3", "not a readable audio file"),
        ("random.flac", "not a readable audio file"),
    ],
)
def test_a_broken_file_is_named_in_one_sentence(tmp_path, name, problem):
    path = broken(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize("unknown", [0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF])
def test_unknown_lengths_are_not_truncations(tmp_path, unknown):
    """What a program that writes WAV into a pipe leaves in the header."""
    path = written(tmp_path / "a.wav", tone(440), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", min(unknown + 36, 0xFFFFFFFF))
    content[40:44] = struct.pack("<I", unknown)
    path.write_bytes(content)
    np.testing.assert_allclose(read(path), tone(440), atol=1e-4)


@pytest.mark.parametrize("suffix", ["wave", "aifc", "au", "snd", "w64", "caf", "oga", "rf64"])
def test_other_suffixes_of_libsndfile_are_read(tmp_path, suffix):
    kind = {"wave": "WAV", "aifc": "AIFF", "snd": "AU", "oga": "OGG"}.get(suffix, suffix.upper())
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(440), SAMPLE_RATE, format=kind)
    assert path.suffix in audio_suffixes()
    assert strongest_hertz(read(path)) == pytest.approx(440, abs=1)
    content = path.read_bytes()
    if suffix not in ("oga", "caf"):  # libsndfile notices these itself, or the header does not tell
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=rf"a\.{suffix}: truncated"):
            read(path)


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "G721_32", "ULAW", "ALAW"])
def test_telephone_codecs_are_read(tmp_path, subtype):
    path = written(tmp_path / "a.wav", tone(440), subtype=subtype)
    heard = read(path)
    assert len(heard) == pytest.approx(SAMPLE_RATE, rel=0.1)
    assert strongest_hertz(heard) == pytest.approx(440, abs=2)


def unfinished(
    form: bytes, riff: int, extra: bytes = b"", sizes: bytes = b"", data: int = 0, silent: int = 0
) -> bytes:
    """A WAV whose writer was killed: it declares `data` bytes, and has a second of samples."""
    samples = bytes(silent) + np.rint(tone(440) * 32_767).astype("<i2").tobytes()[silent:]
    layout = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    data = 0xFFFFFFFF if sizes else data
    head = form + struct.pack("<I", riff) + b"WAVE" + sizes + b"fmt " + layout + extra
    return head + b"data" + struct.pack("<I", data) + samples


JUNK = b"JUNK" + struct.pack("<I", 4_036) + bytes(4_036)


@pytest.mark.parametrize(
    "content",
    [
        unfinished(b"RIFF", 0),
        unfinished(b"RIFF", 36),
        unfinished(b"RIFF", 4_080, JUNK),
        unfinished(b"RIFF", 0xFFFFFFFF),
        unfinished(b"RIFF", 36 + 8_000, data=8_000),
        unfinished(b"RIFF", 36 + 2 * SAMPLE_RATE, data=SAMPLE_RATE),
        unfinished(b"RF64", 0xFFFFFFFF, b"", b"ds64" + struct.pack("<I", 28) + bytes(28)),
    ],
    ids=["no", "header's", "after padding", "unknown", "earlier", "half", "RF64"],
)
def test_an_unfinished_wav_is_read_to_its_end(tmp_path, content):
    path = tmp_path / "killed.wav"
    path.write_bytes(content)
    np.testing.assert_allclose(read(path), tone(440), atol=1e-4)
    assert probe(path).duration_s == pytest.approx(1.0)


def test_a_wav_that_goes_on_with_silence_is_read_to_its_end(tmp_path):
    path = tmp_path / "killed.wav"
    path.write_bytes(unfinished(b"RIFF", 36 + 8_000, data=8_000, silent=12_000))
    expected = np.where(np.arange(SAMPLE_RATE) < 6_000, 0, tone(440))
    np.testing.assert_allclose(read(path), expected, atol=1e-4)


@pytest.mark.parametrize(
    "rest",
    [
        bytes(9_000),
        b"LIST" + struct.pack("<I", 9_000) + bytes([1, 2]) * 4_500,
        b"TAG" + b"\x01" * 125,
        b"ID3\x03" + b"\x01" * 9_000,
        bytes(3) + b"LIST" + struct.pack("<I", 9_000) + b"\x05" * 9_000,
        b"\xaa" * 9_000,
    ],
    ids=["zeros", "notes", "a tag", "another tag", "zeros and notes", "a fill"],
)
def test_what_follows_the_samples_and_is_no_sound_is_not_read(tmp_path, rest):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440), SAMPLE_RATE)
    path.write_bytes(path.read_bytes() + rest)
    assert len(read(path)) == SAMPLE_RATE


def test_an_empty_wav_with_notes_is_empty(tmp_path):
    """The bytes after its samples are accounted for in its header."""
    note = b"LIST" + struct.pack("<I", 100) + bytes(100)
    layout = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    content = b"WAVEfmt " + layout + b"data" + bytes(4) + note
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)
    with pytest.raises(DataError, match="0 samples"):
        read(path)


def declaring(path: Path, position: int, content: bytes) -> Path:
    """A second of sound whose header is changed at one position."""
    soundfile.write(path, tone(440), SAMPLE_RATE)
    whole = bytearray(path.read_bytes())
    whole[position : position + len(content)] = content
    path.write_bytes(whole)
    return path


def hostile(folder: Path, kind: str) -> Path:
    if kind == "1 Hz":
        return declaring(folder / "a.wav", 24, struct.pack("<I", 1))
    if kind == "2 GHz":
        return declaring(folder / "a.wav", 24, struct.pack("<I", 2_000_000_000))
    if kind == "1,000 channels":
        return written(folder / "a.wav", np.zeros((16, 1_000)))
    if kind == "years":  # 36 bits of samples in FLAC's STREAMINFO
        return declaring(folder / "a.flac", 22, b"\xff\xff\xff\xff")
    assert kind == "hours of zeros"
    with soundfile.SoundFile(folder / "a.flac", "w", 96_000, 2, "PCM_16") as file:
        for _ in range(4):
            file.write(np.zeros((96_000 * 60, 2), np.int16))
    return folder / "a.flac"


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("1 Hz", r"1 Hz; 1,000 to 768,000 Hz can be read"),
        ("2 GHz", r"2000000000 Hz; 1,000 to"),
        ("1,000 channels", r"1000 channels; up to 64 can be read"),
        ("years", r"a\.flac: (truncated|cannot be decoded)"),
        ("hours of zeros", r"lasts more than 0\.05 h; SPEECHGRU_MAX_HOURS sets the limit"),
    ],
)
def test_hostile_headers_are_refused_before_memory_is_taken(tmp_path, monkeypatch, kind, problem):
    monkeypatch.setenv("SPEECHGRU_MAX_HOURS", "0.05")
    path = hostile(tmp_path, kind)
    assert path.stat().st_size < 4_000_000
    tracemalloc.start()
    with pytest.raises(DataError, match=problem):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 120_000_000
    tracemalloc.stop()


def test_a_wrong_limit_is_named(tmp_path, monkeypatch):
    path = written(tmp_path / "a.wav", tone(440))
    for text in ("long", "0", "nan", "-1"):
        monkeypatch.setenv("SPEECHGRU_MAX_HOURS", text)
        with pytest.raises(DataError, match=f"SPEECHGRU_MAX_HOURS={text}: a number of hours"):
            read(path)


def test_one_channel_can_be_chosen(tmp_path):
    channels = RANDOM.uniform(-0.9, 0.9, (4_000, 3))
    path = written(tmp_path / "a.wav", channels, subtype="FLOAT")
    for channel in (1, 2, 3):
        heard = read(path, channel=channel)
        np.testing.assert_allclose(heard, channels[:, channel - 1], atol=1e-6)
    with pytest.raises(DataError, match=r"a\.wav: there is no channel 4; it has 3 channels"):
        read(path, channel=4)
    with pytest.raises(UsageError, match="--channel 0: channels are counted from 1"):
        read(path, channel=0)


def test_a_long_recording_is_resampled_as_in_one_piece(tmp_path):
    frames = RANDOM.uniform(-0.9, 0.9, (48_000 * 65, 2)).astype(np.float32)
    path = written(tmp_path / "a.wav", frames, 48_000, "FLOAT")
    np.testing.assert_array_equal(read(path), to_mono(frames, 48_000, SAMPLE_RATE))


@pytest.mark.skipif(sys.platform == "win32", reason="names are UTF-16 there")
def test_names_that_are_not_utf8_are_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdfe.wav"))
    path.write_bytes(written(tmp_path / "a.wav", tone(440)).read_bytes())
    assert len(read(path)) == SAMPLE_RATE


def test_pipes_and_devices_are_no_empty_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/null")):
        with pytest.raises(DataError, match=r"is a pipe or a device; .* `listen --input -`"):
            read(path)


def test_directories_and_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"is a directory; an audio file is needed"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"nothing\.wav: cannot be read: No such file"):
        probe(tmp_path / "nothing.wav")
    with pytest.raises(DataError, match=r"nothing\.wav: cannot be read"):
        probe(written(tmp_path / "a.wav", tone(440)) / "nothing.wav")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_with_the_values_of_integers_are_refused(tmp_path, subtype):
    path = written(tmp_path / "a.wav", 21_000 * tone(440) / tone(440).max(), subtype=subtype)
    with pytest.raises(DataError, match=r"a\.wav: samples reach 21,000, .* divide them by 32,768"):
        read(path)
    loud = written(tmp_path / "b.wav", 7.9 * tone(440) / tone(440).max(), subtype=subtype)
    assert read(loud).max() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_named_with_their_position(tmp_path, value):
    samples = tone(440).astype(np.float32)
    samples[1_234] = value
    path = written(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"a\.wav: sample 1234 is {value}"):
        read(path)
