"""Recordings of phones and browsers, which PyAV decodes; and what happens without it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.audio import pyav
from speechgru.audio.files import audio_suffixes, blocks, probe, read
from speechgru.errors import DataError

av = pytest.importorskip("av")

SECONDS = 1.5
CODECS = {".m4a": "aac", ".mp4": "aac", ".3gp": "aac", ".aac": "aac", ".webm": "libopus"}


def write(path: Path, hertz: float = 440.0, channels: int = 1, title: str = "") -> Path:
    """A tone, encoded as phones and browsers do."""
    rate = 48_000
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * SECONDS)) / rate)
    layout = {1: "mono", 2: "stereo"}[channels]
    container = "adts" if path.suffix == ".aac" else None
    with av.open(path, "w", format=container) as file:
        if title:
            file.metadata["title"] = title
        stream = file.add_stream(CODECS[path.suffix], rate=rate)
        stream.layout = layout
        planes = np.tile(sound.astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = rate
        queue = av.AudioFifo()
        for piece in av.AudioResampler(stream.format.name, layout, rate).resample(frame):
            queue.write(piece)
        while (piece := queue.read(960) or queue.read(0)) is not None:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return path


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    """As encoders write it into a pipe."""
    path = tmp_path / "piped.flac"
    sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000)
    soundfile.write(path, sound, 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_allclose(read(path), sound, atol=1e-4)
    assert probe(path).duration_s == pytest.approx(3.0, abs=0.01)


def test_a_title_that_is_not_utf8_is_no_obstacle(tmp_path):
    path = write(tmp_path / "tone.m4a", title="Stra\u00dfe")
    content = path.read_bytes()
    assert content.count("\u00df".encode()) == 1
    path.write_bytes(content.replace("\u00df".encode(), b"\xdf "))  # Latin-1
    assert strongest_hertz(read(path, 16_000)) == pytest.approx(440, abs=2)


def strongest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 16_000 / len(samples))


@pytest.mark.parametrize("suffix", CODECS)
def test_tones_survive_encoding(tmp_path, suffix):
    path = write(tmp_path / f"tone{suffix}")
    assert suffix in audio_suffixes()
    samples = read(path)
    assert len(samples) == pytest.approx(SECONDS * 16_000, rel=0.1)
    assert strongest_hertz(samples) == pytest.approx(440, abs=1.5)
    assert samples[4_000:12_000].std() == pytest.approx(0.5 / 2**0.5, rel=0.05)
    assert probe(path).duration_s == pytest.approx(SECONDS, rel=0.1)
    in_blocks = np.concatenate([frames for frames, _ in blocks(path, 0.1)])
    assert len(in_blocks) / probe(path).rate == pytest.approx(len(samples) / 16_000, abs=0.01)


def test_channels_can_be_chosen(tmp_path):
    path = write(tmp_path / "a.m4a", channels=2)
    assert probe(path).channels == 2
    np.testing.assert_allclose(read(path, channel=2), read(path), atol=0.01)


def test_the_content_decides_not_the_name(tmp_path):
    """Phones' recordings are often renamed."""
    path = write(tmp_path / "a.m4a").rename(tmp_path / "a.wav")
    assert strongest_hertz(read(path)) == pytest.approx(440, abs=1.5)


def test_a_wav_by_another_name_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1_600), 16_000)
    assert len(read((tmp_path / "a.wav").rename(tmp_path / "a.m4a"))) == 1_600


@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".aac"])
def test_broken_files_are_named(tmp_path, suffix):
    content = write(tmp_path / f"a{suffix}").read_bytes()
    for number, wrong in enumerate((content[:40], b"no sound at all" * 40)):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=rf"{number}\{suffix}: ") as raised:
            read(path)
        assert len(str(raised.value)) < 300


def test_playlists_are_not_followed(tmp_path):
    """FFmpeg would open what they name."""
    write(tmp_path / "secret.m4a")
    (tmp_path / "list.m4a").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.m4a\n")
    with pytest.raises(DataError, match=r"list\.m4a: not a readable audio file"):
        read(tmp_path / "list.m4a")


def test_help_is_given_without_pyav(tmp_path, monkeypatch):
    path = write(tmp_path / "anna 1.m4a")
    monkeypatch.setattr(pyav, "find_spec", lambda name: None)
    pyav.is_installed.cache_clear()
    try:
        assert ".m4a" not in audio_suffixes()
        with pytest.raises(DataError) as raised:
            read(path)
    finally:
        pyav.is_installed.cache_clear()
    assert "pip install 'speechgru[av]'" in str(raised.value)
    assert "ffmpeg -i 'anna 1.m4a' 'anna 1.wav'" in str(raised.value)
