"""`speechgru review` as it is typed: decisions on stdin, keys on a terminal, without playback."""

import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.cli import main
from speechgru.decoding.events import Event
from speechgru.recognition.recording import EventClips

RATE = 16_000


@pytest.fixture
def folders(tmp_path):
    """Three caught clips of "go", and a directory with two words."""
    rng = np.random.default_rng(0)
    clips = EventClips(tmp_path / "caught", RATE, model="runs/mine")
    for i in range(3):
        samples = rng.uniform(-0.5, 0.5, RATE).astype(np.float32)
        clips.push(samples, [Event("go", i + 0.3, i + 0.5, score=0.8, t=i + 0.55)])
    clips.flush()
    for word in ("go", "stop"):
        (tmp_path / "own" / word).mkdir(parents=True)
        soundfile.write(tmp_path / "own" / word / "anna_1.wav", rng.uniform(-1, 1, RATE), RATE)
    return str(tmp_path / "caught"), str(tmp_path / "own")


def test_the_first_line_may_have_a_byte_order_mark_and_the_speaker_is_known(folders, monkeypatch):
    caught, own = folders
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffright\n"))
    assert main(["review", caught, "--data", own]) == 0
    assert sorted(path.name for path in Path(own, "go").glob("*.wav")) == [
        "anna_1.wav",
        "anna_2.wav",
    ]


@pytest.fixture
def review(folders, monkeypatch, capsys):
    def run(text, *options):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        code = main(["review", folders[0], "--data", folders[1], *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_lines_on_stdin_are_decisions(review, tmp_path):
    code, out, _ = review("", "--json")
    assert code == 0
    left = json.loads(out)["left"]
    assert [(clip["word"], clip["score"], clip["model"]) for clip in left] == [
        ("go", 0.8, "runs/mine")
    ] * 3
    last = json.dumps({"file": left[2]["file"], "decision": "word", "word": "stop"})
    code, out, _ = review(f"right\n{last}\n", "--json", "--speaker", "anna")
    assert code == 0
    found = json.loads(out)
    assert [filed["decision"] for filed in found["filed"]] == ["right", "word"]
    assert (tmp_path / "own" / "go" / "anna_2.wav").exists()
    assert (tmp_path / "own" / "stop" / "anna_2.wav").exists()
    assert [clip["file"] for clip in found["left"]] == [left[1]["file"]]
    code, out, err = review("undo\nspeech\nspeech\n")
    assert code == 0
    assert "undone: " in err
    assert "2 decided now; in all: 1 right, 2 speech; 0 left" in out
    assert "next: speechgru train my-words --data" in out
    assert "--from runs/mine" in out
    assert not (tmp_path / "own" / "stop" / "anna_2.wav").exists()
    assert len(list((tmp_path / "own" / "_unknown_").glob("*.wav"))) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rigth", "decision 'rigth': one of right, word, speech, noise, discard, undo is needed"),
        ("{", "is not JSON"),
        ('{"a":' * 100_000, "is not JSON"),
        ('{"decision": "word", "word": "no"}', "has no such word; there are go, stop"),
        ('{"decision": "right", "speaker": "an_na"}', "must not contain _ or -"),
        ('{"decision": "right", "word": "stop"}', "word 'stop': goes with the decision 'word'"),
        ('{"decision": "word"}', "decision 'word': the word is missing"),
        ('{"decision": "undo", "file": "x.wav"}', "undo: takes the last decision back, and has no"),
        ('{"decision": "right", "file": "x.wav"}', "'x.wav': is not a caught clip"),
        ('{"decision": "right", "who": "x"}', "'who': only file"),
        ('{"decision": "right", "speaker": 3}', "must be strings"),
    ],
)
def test_wrong_line_is_a_sentence_and_what_came_before_it_is_kept(review, text, said):
    code, out, err = review(f"speech\n{text}\nspeech\n")
    assert code == 2
    assert "1 decided now; in all: 1 speech; 2 left" in out
    assert said in " ".join(err.split())
    assert "line 2" in err or "JSON" in err
    _, out, _ = review("", "--json")
    assert len(json.loads(out)["left"]) == 2


def test_no_clips_or_no_words_are_errors(tmp_path, folders, capsys):
    (tmp_path / "none").mkdir()
    assert main(["review", str(tmp_path / "none"), "--data", folders[1]]) == 4
    assert "holds no recording" in capsys.readouterr().err
    assert main(["review", folders[0], "--data", str(tmp_path / "none")]) == 2


@pytest.mark.slow
def test_keys_on_a_terminal_without_playback(folders, tmp_path):
    """As over SSH: y right, o other speech, u undo, w and a number another word, q quits."""
    controller, terminal = pty.openpty()
    options = ("--data", folders[1], "--speaker", "anna", "--no-play")
    process = subprocess.Popen(
        [sys.executable, "-m", "speechgru", "review", folders[0], *options],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "dumb"},
    )
    os.close(terminal)
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        until = time.monotonic() + 60
        while text not in seen and time.monotonic() < until:
            seen += os.read(controller, 1000).decode()
        assert text in seen
        seen = seen.partition(text)[2]

    def press(keys: str) -> None:
        time.sleep(0.3)
        os.write(controller, keys.encode())

    for text, keys in (
        ("1 of 3  go 0.80", "y"),
        ("2 of 3  go 0.80", "o"),
        ("3 of 3  go 0.80", "u"),
        ("undone: ", "w"),
        ("2 stop", ""),
        ("word, or its number", "2\n"),
        ("3 of 3  go 0.80", "q"),
        ("2 decided now", ""),
    ):
        wait_for(text)
        press(keys)
    assert process.wait(timeout=30) == 0
    os.close(controller)
    assert (tmp_path / "own" / "go" / "anna_2.wav").exists()
    assert (tmp_path / "own" / "stop" / "anna_2.wav").exists()
    assert not (tmp_path / "own" / "_unknown_" / "alarm_1.wav").exists()
