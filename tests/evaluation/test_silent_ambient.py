"""Ambient recordings without a sound say nothing about false alarms."""

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from listener import listening_model
from tones import RATE

from speechgru.cli import main
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import DataError
from speechgru.evaluation.ambient import AmbientSound, open_ambient, recognize_ambient
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.state_policy import StatePolicy


def sound_of(folder, **peaks: float) -> AmbientSound:
    """A recording of two seconds of noise for each peak."""
    for name, peak in peaks.items():
        samples = peak * np.random.default_rng(0).uniform(-1, 1, 2 * RATE)
        soundfile.write(folder / f"{name}.flac", samples, RATE, "PCM_24")
    return open_ambient(folder, RATE)


def recognize(sound: AmbientSound) -> None:
    recognize_ambient(BandBackend(), sound, DetectorConfig(), StatePolicy(mode="carry"))


@pytest.mark.parametrize("peak", [0.0, 9e-5])
def test_silence_is_refused(tmp_path, peak):
    sound = sound_of(tmp_path, a=peak, b=0.0)
    with pytest.raises(DataError, match=f"{tmp_path}: is silent, which shows nothing about false"):
        recognize(sound)


def test_a_quiet_room_is_no_silence(tmp_path):
    sound = sound_of(tmp_path, room=2e-4)
    recognize(sound)
    assert not sound.silent


def test_silent_recordings_among_others_are_known(tmp_path):
    sound = sound_of(tmp_path, muted=0.0, room=1e-3)
    for _ in range(2):
        recognize(sound)
        assert [path.name for path in sound.silent] == ["muted.flac"]


def test_commands_name_them(tmp_path, capsys):
    model, room = tmp_path / "model.safetensors", tmp_path / "room"
    room.mkdir()
    save_model(listening_model(), model)
    sound_of(room, muted=0.0)
    calibrate = ["calibrate", str(model), "--ambient", str(room), "--dry-run"]
    calibrate += ["--max-false-alarms-per-hour", "3600", "--device", "cpu"]
    evaluate = ["evaluate", str(model), "--ambient", str(room), "--device", "cpu"]
    for command in (calibrate, evaluate):
        assert main(command) == 4
        assert "room: is silent, which shows nothing" in capsys.readouterr().err.replace("\n", " ")
    sound_of(room, noise=1e-3)
    sentence = "1 of 2 ambient recordings is silent and should be left out"
    for command in (calibrate, evaluate):
        assert main(command) == 0
        assert sentence in capsys.readouterr().err.replace("\n", " ")
