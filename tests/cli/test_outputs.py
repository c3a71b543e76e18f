"""Where results go is tested before the work that they come from."""

import numpy as np
import pytest
import soundfile
from tones import untrained_model

from speechgru.cli import main, progress
from speechgru.evaluation import ambient
from speechgru.modelfile.safetensors import load_model, save_model

LINES = [
    "export {model} -o {text}/model.onnx",
    "export {model} --web {text}",
    "calibrate {model} --ambient {none} {limit} --output {text}/x.safetensors",
    "calibrate {model} --ambient {none} --data {none} {limit} --dry-run --picture {text}/x.png",
    "inspect {model} {none} -o {text}",
    "evaluate {model} --data {none} --streaming --picture {text}/x.png",
    "compare --data {none} --out {text}",
    "data stream {none} -o {text}/x.wav",
    "data stream {none} -o {taken}.wav",
    "data stream {none} -o {new}.mp3",
    "record word --out {text} --input {none}",
    "listen {model} --input {sound} --save-dir {text}",
    "listen {model} --input {sound} --record {text}/x.wav",
]


@pytest.fixture
def places(tmp_path, clip_model) -> dict[str, str]:
    """Good ones, and places that cannot be written."""
    (tmp_path / "text").write_text("mine")
    (tmp_path / "taken.json").mkdir()
    soundfile.write(tmp_path / "sound.wav", np.full(8_000, 0.01), 16_000)
    names = {"text": "text", "none": "none.wav", "new": "new", "taken": "taken"}
    found = {key: str(tmp_path / name) for key, name in names.items()}
    sound = str(tmp_path / "sound.wav")
    return found | {"model": clip_model, "sound": sound}


@pytest.mark.parametrize("line", LINES)
def test_outputs_are_tested_first(line, places, capsys, monkeypatch):
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("speechgru.backends.loader.open_backend", no_work)
    monkeypatch.setattr("speechgru.modelfile.safetensors.load_model", no_work)
    line = line.replace("{limit}", "--max-false-alarms-per-hour 1")
    assert main([part.format(**places) for part in line.split()]) in (1, 2)
    error = capsys.readouterr().err.partition("\n")[0]
    assert error.startswith("error: ")
    assert any(places[key] in error for key in ("text", "taken", "new"))
    assert places["none"] not in error


def test_thresholds_of_a_model_are_not_written_into_another(places, tmp_path, capsys, monkeypatch):
    """A training has replaced the file in the meantime; what was measured is shown."""
    mine, listen = tmp_path / "mine.safetensors", ambient.open_ambient
    save_model(untrained_model(clip_s=0.5, metrics={"step": 1}), mine)

    def open_and_replace(*arguments):
        save_model(untrained_model(clip_s=0.5, metrics={"step": 2}), mine)
        return listen(*arguments)

    monkeypatch.setattr(ambient, "open_ambient", open_and_replace)
    limit = ["--max-false-alarms-per-hour", "10000"]
    assert main(["calibrate", str(mine), "--ambient", places["sound"], *limit]) == 4
    printed = capsys.readouterr()
    assert "mine.safetensors: was replaced by another model in the meantime" in printed.err
    assert "false alarms" in printed.out
    assert load_model(mine).metadata == {"clip_s": 0.5, "metrics": {"step": 2}}


def test_long_work_says_how_far_it_is(places, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert main(["listen", places["model"], "--input", places["sound"], "--json"]) == 0
    assert "listening, in seconds of audio: 0" in capsys.readouterr().err
    assert main(["recognize", places["model"], places["sound"], "--json"]) == 0
    assert capsys.readouterr().err == "recognizing: 0 of 1 (0 %)\n"
