"""Calibration without a stream of words: thresholds rise as little as possible, none is lowered."""

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from listener import listening_model
from tones import RATE, tone

from speechgru.cli import main
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Event
from speechgru.evaluation.ambient import open_ambient
from speechgru.evaluation.calibration import calibrate
from speechgru.evaluation.thresholds import THRESHOLDS
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.state_policy import StatePolicy

#: Not in `THRESHOLDS`, as a user types them.
CURRENT = {"low": 0.7, "mid": 0.97, "high": 0.85}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Twenty seconds of noise with a low tone."""
    folder = tmp_path_factory.mktemp("room")
    samples = np.random.default_rng(0).normal(0, 1e-3, 20 * RATE).astype(np.float32)
    samples[5 * RATE : 5 * RATE + RATE // 2] += tone("low", 1)
    soundfile.write(folder / "room.wav", samples, RATE)
    return folder


@pytest.fixture
def scores(monkeypatch):
    """The scores of the events in a room for each word, which the test fills in."""
    scores: dict[str, list[float]] = {word: [] for word in CURRENT}

    def events(self, output, config):
        return [
            Event(word, 0.1, 0.2, score, 0.2)
            for word, found in scores.items()
            for score in found
            if score >= config.threshold_for(word)
        ]

    monkeypatch.setattr("speechgru.evaluation.calibration._Recordings._events", events)
    return scores


def chosen(room, allowed: int, thresholds=CURRENT) -> dict[str, float]:
    """The thresholds for so many false alarms in the room."""
    sound, config = open_ambient(room, RATE), DetectorConfig(thresholds=dict(thresholds))
    per_hour = max(allowed, 0.5) * 3600 / 20 + 1
    policy = StatePolicy(mode="carry")
    found = calibrate(BandBackend(), sound, None, per_hour, config, policy)
    assert len(found.chosen.ambient.events) <= allowed
    assert found.config.thresholds == found.chosen.thresholds
    return found.chosen.thresholds


def test_thresholds_without_false_alarms_stay(room, scores):
    assert chosen(room, 0) == CURRENT
    scores["low"] = [0.69, 0.5]
    assert chosen(room, 0) == CURRENT


def test_allowed_false_alarms_lower_none(room, scores):
    """At one threshold for all words there would be more of them than there are."""
    scores["mid"] = [0.96, 0.8]
    scores["low"] = [0.75]
    assert chosen(room, 1) == CURRENT


def test_only_words_with_false_alarms_rise_and_to_the_next_threshold(room, scores):
    scores["low"] = [0.71]
    scores["high"] = [0.9]
    found = chosen(room, 0)
    nearest = {word: min(t for t in THRESHOLDS if t > scores[word][0]) for word in ("low", "high")}
    assert found == CURRENT | nearest


def test_threshold_above_all_others_stays_and_is_for_its_word_alone(room, scores):
    scores["low"] = [0.9]
    found = chosen(room, 0, CURRENT | {"mid": 1.0})
    assert found["mid"] == 1.0
    assert found["high"] == CURRENT["high"]
    assert found["low"] == min(t for t in THRESHOLDS if t > 0.9)


@pytest.mark.parametrize("option", ["--minutes", "--seed"])
def test_options_of_the_stream_need_recordings_of_words(room, tmp_path, capsys, option):
    model = tmp_path / "model.safetensors"
    save_model(listening_model(), model)
    command = ["calibrate", str(model), "--ambient", str(room), "--device", "cpu", "--dry-run"]
    command += ["--max-false-alarms-per-hour", "10000"]
    assert main([*command, option, "3"]) == 2
    assert f"{option}: only has an effect together with --data" in capsys.readouterr().err
    assert main(command) == 0


def test_the_command_says_whether_a_threshold_has_changed(room, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    save_model(listening_model(), model)
    command = ["calibrate", str(model), "--ambient", str(room), "--device", "cpu"]
    for per_hour, said in (
        (10_000, "no threshold has changed"),
        (1, "thresholds written"),
        (1, "no threshold has changed"),
    ):
        assert main([*command, "--max-false-alarms-per-hour", str(per_hour)]) == 0
        assert said in " ".join(capsys.readouterr().err.split())
