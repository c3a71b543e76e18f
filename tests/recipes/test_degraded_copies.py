"""The script that copies recordings as from afar, by telephone, and coded."""

import numpy as np
import pytest
import soundfile
from scripts import load_script
from speech_like import room, spoken

from speechgru.audio.files import read
from speechgru.corpora import open_corpus

RATE = 16_000


@pytest.fixture(scope="module")
def script():
    return load_script("degraded_copies")


@pytest.fixture(scope="module")
def copies(script, tmp_path_factory):
    """Copies of the validation split of two recordings, and the corpus that they are of."""
    root = tmp_path_factory.mktemp("degraded")
    commands = root / "commands"
    for voice in ("0a0a0a0a", "0b0b0b0b"):
        path = commands / "yes" / f"{voice}_nohash_0.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.concatenate([room(0.2), spoken(0.6), room(0.2)]), RATE)
    (commands / "validation_list.txt").write_text("yes/0a0a0a0a_nohash_0.wav\n")
    (commands / "testing_list.txt").write_text("")
    (commands / "_background_noise_").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    soundfile.write(commands / "_background_noise_" / "white.wav", noise, RATE)
    assert script.main([str(commands), "--out", str(root / "copies")]) == 0
    return root / "copies", commands


def heard(copies, kind: str) -> np.ndarray:
    (clip,) = open_corpus(str(copies[0] / kind)).split("validation")
    assert (clip.word, clip.speaker) == ("yes", "0a0a0a0a")
    return read(clip.path, RATE)


def band_db(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.square(np.abs(np.fft.rfft(samples)))
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return 10 * np.log10(power[(hertz >= low_hz) & (hertz < high_hz)].sum())


@pytest.mark.parametrize("kind", ["far", "telephone", "opus", "mp3"])
def test_each_kind_has_the_recordings_of_the_split(copies, kind):
    original = read(copies[1] / "yes" / "0a0a0a0a_nohash_0.wav", RATE)
    samples = heard(copies, kind)
    assert len(samples) == pytest.approx(len(original), rel=0.1)
    loudness = np.sqrt(np.square(samples).mean() / np.square(original).mean())
    assert 0.5 < loudness < 2


def test_the_telephone_has_no_high_tones(copies):
    samples = heard(copies, "telephone")
    assert band_db(samples, 5_000, 8_000) < band_db(samples, 500, 3_000) - 35


def test_afar_there_is_noise_at_ten_decibels(copies):
    samples = heard(copies, "far")
    quiet, all_of_it = samples[: RATE // 10], samples
    ratio_db = 10 * np.log10(np.square(quiet).mean() / np.square(all_of_it).mean())
    assert -14 < ratio_db < -7


def test_what_is_there_is_not_overwritten(script, copies, capsys):
    root, commands = copies
    assert script.main([str(commands), "--out", str(root)]) == 2
    assert capsys.readouterr().err == f"error: {root / 'far'}: cannot be written: File exists\n"


def test_folders_without_lists_are_refused(script, tmp_path, capsys):
    (tmp_path / "yes").mkdir()
    soundfile.write(tmp_path / "yes" / "anna_1.wav", spoken(0.6), RATE)
    assert script.main([str(tmp_path), "--out", str(tmp_path / "copies")]) == 2
    assert "validation_list.txt" in capsys.readouterr().err
