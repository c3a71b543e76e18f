"""From the first prompt to a listening model, as commands, on a virtual microphone."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from virtual_microphone import plug

from speechgru.audio.files import read
from speechgru.common.threads import in_threads

__all__ = ["plug"]  # a fixture

RATE = 16_000
SPEAKER, WORDS, TAKES = "jackson", ("zero", "five", "seven"), 12
#: Before and between words.
PAUSE = np.zeros(RATE * 3 // 2, np.float32)


def speechgru(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "speechgru", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def events(model: Path, sound: np.ndarray, path: Path) -> list[dict]:
    """What `listen` recognizes in a recording."""
    soundfile.write(path, sound, RATE)
    command = [sys.executable, "-m", "speechgru", "listen", model, "--input", path, "--jsonl"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def record(plug, takes: dict[str, list[Path]], out: Path, folder: Path) -> float:
    """Say each word that is asked for; gives the seconds from the first prompt to the end."""
    process = speechgru(
        *("record", *WORDS, "--takes", TAKES, "--speaker", SPEAKER, "--out", out, "--json")
    )
    start = None
    for line in process.stderr:
        if line.startswith("say "):
            start = start or time.monotonic()
            clip = read(takes[line.split()[1]].pop(0), RATE)
            said = np.concatenate([PAUSE[: RATE // 3], 0.5 * clip / np.abs(clip).max()])
            soundfile.write(folder / "word.wav", said, RATE)
            plug("play", folder / "word.wav")
    answer = json.loads(process.stdout.read())
    assert process.wait(60) == 0
    assert len(answer["kept"]) == len(WORDS) * TAKES
    return time.monotonic() - start


@pytest.mark.slow
def test_own_words_from_the_first_prompt_to_a_listening_model(
    plug, fsdd, ambient_speech, tmp_path, record_property
):
    """One speaker, twelve takes of three words; the other takes, and read speech, test.

    The test's report has the figures. Times depend on what else the machine does: they are
    measured, not judged.
    """
    takes = {
        word: sorted((fsdd / word).glob(f"{SPEAKER}_*.flac"), key=lambda p: p.stem.zfill(20))
        for word in WORDS
    }
    recording_s = record(plug, takes, tmp_path / "own", tmp_path)
    start = time.monotonic()
    training = speechgru("train", "my-words", "--data", tmp_path / "own", "--out", tmp_path / "run")
    training.communicate()
    assert training.returncode == 0
    training_s = time.monotonic() - start
    listening = speechgru("listen", tmp_path / "run", "--jsonl")
    try:
        next(line for line in listening.stderr if line.startswith("listening to"))
        listening_s = time.monotonic() - start - training_s
        for word in WORDS:
            sound = np.concatenate([PAUSE, read(takes[word][0], RATE), PAUSE])
            soundfile.write(tmp_path / "word.wav", sound, RATE)
            plug("play", tmp_path / "word.wav")
        time.sleep(1)
    finally:
        listening.send_signal(signal.SIGINT)
        said, _ = listening.communicate(timeout=60)
    heard = [json.loads(line)["word"] for line in said.splitlines()]

    spoken, parts, starts_s = [], [PAUSE], []
    for word in WORDS:
        for clip in in_threads(lambda path: read(path, RATE), takes[word]):
            starts_s.append(sum(map(len, parts)) / RATE)
            spoken.append(word)
            parts += [clip, PAUSE]
    found = events(tmp_path / "run", np.concatenate(parts), tmp_path / "takes.wav")
    right = sum(
        [e["word"] for e in found if start_s <= e["t"] < start_s + 1.9] == [word]
        for start_s, word in zip(starts_s, spoken, strict=True)
    )
    talk = np.concatenate(
        in_threads(lambda p: read(p, RATE), sorted(ambient_speech.glob("*.flac"))[1::2])
    )
    alarms = events(tmp_path / "run", talk, tmp_path / "talk.wav")
    hours = len(talk) / RATE / 3600
    measured = {
        "recording_s": round(recording_s, 1),
        "training_s": round(training_s, 1),
        "listening_s": round(listening_s, 1),
        "right": f"{right} of {len(spoken)}",
        "false_alarms": f"{len(alarms)} in {hours:.2f} h",
    }
    record_property("measured", json.dumps(measured))
    print(json.dumps(measured))
    assert heard == list(WORDS), measured
    assert right >= 0.97 * len(spoken), measured
    assert len(alarms) <= 3, measured
