"""Own recordings in folders: long ones, a single wake word, and phrases longer than a clip."""

import re

import numpy as np
import pytest
import soundfile
from runs import CPU, QUICK
from tones import RATE, tone

from speechgru.modelfile.safetensors import load_model
from speechgru.training import loop
from speechgru.training.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("quick_streams")


def write_words(root, words, seconds=0.5, silence_s=0.0):
    """Recordings of each word by eight speakers, with silence before the tone."""
    for word, pitch in words.items():
        (root / word).mkdir(parents=True)
        for speaker in range(8):
            samples = tone(pitch, speaker, seconds)
            samples = np.concatenate([np.zeros(round(silence_s * RATE), np.float32), samples])
            soundfile.write(root / word / f"speaker{speaker}_1.wav", samples, RATE)
    return root


def train(root, out, say=lambda line: None, **sections):
    table = QUICK | {"data": {"directory": str(root)}, "stream": {"clips": 2}} | sections
    table["training"] = QUICK["training"] | {"epochs": 4, "validations": 1}
    return load_model(loop.train(parse_recipe(table, "words"), out, CPU, say=say).model)


@pytest.mark.parametrize("seconds", [0.5, 1.3, 2.4])
def test_clip_is_as_long_as_the_recordings(tmp_path, seconds):
    """Also where that is longer than a row's `seconds_per_clip`."""
    root = write_words(tmp_path / "own", {"one": "low", "two": "high"}, seconds)
    model = train(root, tmp_path / "run")
    assert model.metadata["clip_s"] == pytest.approx(seconds, abs=0.11)


def test_single_wake_word(tmp_path):
    root = write_words(tmp_path / "own", {"hello": "low", "_unknown_": "high"})
    (root / "_background_noise_").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.02, 20 * RATE)
    soundfile.write(root / "_background_noise_" / "room.wav", noise, RATE)
    model = train(root, tmp_path / "run")
    assert model.labels == ("_silence_", "_unknown_", "hello")


def test_phrases_that_are_cut_are_reported(tmp_path):
    root, lines = write_words(tmp_path / "own", {"one": "low", "two": "high"}, 2.0), []
    train(root, tmp_path / "run", lines.append, data={"directory": str(root), "clip_s": 1.0})
    (told,) = (line for line in lines if "longer than a clip" in line)
    assert re.match(r"(\d+) of \1 recordings are longer than a clip", told)
    assert "cut to 1 s; --set data.clip_s=" in told


def test_silence_around_a_word_is_not_reported_as_cut(tmp_path):
    root = write_words(tmp_path / "own", {"one": "low", "two": "high"}, 0.5, silence_s=1.0)
    lines: list[str] = []
    train(root, tmp_path / "run", lines.append, data={"directory": str(root), "clip_s": 0.8})
    assert not any("longer than a clip" in line for line in lines)
