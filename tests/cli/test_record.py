"""`speechgru record`: from a long recording, and on a microphone."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from speech_like import room, spoken
from virtual_microphone import plug

from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.own_recordings import OwnRecordings
from speechgru.errors import SpeechGRUError

__all__ = ["plug"]  # a fixture

RATE = 16_000


@pytest.fixture
def long_recording(tmp_path):
    parts = [room(1.0)]
    for seconds in (0.5, 0.6, 0.7):
        parts += [spoken(seconds), room(1.0)]
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


def test_long_recording_becomes_takes(long_recording, tmp_path, capsys):
    arguments = ["record", "lumos", "--input", str(long_recording), "--out", str(tmp_path / "own")]
    assert main([*arguments, "--speaker", "anna", "--takes", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    names = sorted(path.name for path in (tmp_path / "own" / "lumos").iterdir())
    assert names == ["anna_1.wav", "anna_2.wav", "anna_3.wav"]
    assert [entry["word"] for entry in answer["kept"]] == ["lumos"] * 3
    assert answer["refused"] == []
    assert answer["check"]["clips"] == 3
    # What is there counts: nothing is left to record.
    assert main([*arguments, "--speaker", "anna", "--takes", "3", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["kept"] == []
    assert "3 takes of each by anna are there already" in printed.err


def test_a_noise_is_kept_and_doubted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    hiss = (0.1 * rng.uniform(-1, 1, RATE // 2)).astype(np.float32)
    soundfile.write(tmp_path / "hiss.wav", np.concatenate([room(1), hiss, room(1)]), RATE)
    arguments = ["record", "lumos", "--input", str(tmp_path / "hiss.wav"), "--takes", "1"]
    assert main([*arguments, "--out", str(tmp_path / "own")]) == 0
    assert (
        "me_1.wav: 0.5 s, peak -20 dB; it does not sound like speech\n" in capsys.readouterr().err
    )
    assert main([*arguments, "--out", str(tmp_path / "other"), "--json"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["kept"]
    assert kept["speech"] < 0.9


def test_names_with_letters_in_two_parts_are_those_with_one(long_recording, tmp_path, capsys):
    """As file names of a Mac have them, completed on the command line."""
    arguments = ["record", "gro\u0308\u00dfe", "--input", str(long_recording), "--takes", "1"]
    options = ["--speaker", "Jo\u0308rg", "--out", str(tmp_path / "own"), "--json"]
    assert main([*arguments, *options]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["kept"]
    assert kept["file"] == str(tmp_path / "own" / "gr\u00f6\u00dfe" / "J\u00f6rg_1.wav")


def test_rest_of_a_long_recording_is_reported_and_cut_by_a_second_run(
    long_recording, tmp_path, capsys
):
    sound, _ = soundfile.read(long_recording)
    soundfile.write(long_recording, np.concatenate([sound, room(20.0)]), RATE)
    own = tmp_path / "own"
    arguments = ["record", "lumos", "--input", str(long_recording), "--out", str(own)]
    assert main([*arguments, "--takes", "2"]) == 0
    printed = capsys.readouterr().err
    assert "s were not cut, as --takes is 2" in printed
    assert "say lumos" not in printed  # nobody is asked
    assert main([*arguments, "--takes", "4", "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert [entry["file"] for entry in answer["kept"]] == [str(own / "lumos" / "me_3.wav")]
    assert [entry["fault"] for entry in answer["refused"]] == ["repeated", "repeated"]
    assert "microphone" not in printed.err  # nor is a pause in a recording the microphone's fault


def test_a_full_disk_keeps_what_was_recorded_and_says_what(
    long_recording, tmp_path, capsys, monkeypatch
):
    add = OwnRecordings.add

    def add_one(recordings, word, samples):
        if recordings.count(word):
            raise SpeechGRUError("the disk is full")
        return add(recordings, word, samples)

    monkeypatch.setattr(OwnRecordings, "add", add_one)
    arguments = ["record", "lumos", "--input", str(long_recording), "--takes", "2", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "own")]) == 1
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["kept"]) == 1
    assert "error: the disk is full" in printed.err


def test_folders_without_recordings_are_no_words(tmp_path, capsys):
    """Such as those of git, or of words that are recorded another day."""
    for name in (".git", "nox", "lumos"):
        (tmp_path / "own" / name).mkdir(parents=True)
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, room(3.0), RATE)
    options = ["--input", str(quiet), "--out", str(tmp_path / "own"), "--json"]
    assert main(["record", "lumos", *options]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["kept"] == []
    assert "check" not in answer
    assert f"{quiet}: no speech was found in it" in printed.err


def test_one_channel_of_a_recording_is_cut(tmp_path, capsys):
    word = np.concatenate([room(0.8), spoken(0.5), room(0.8)])
    path, own = tmp_path / "stereo.wav", tmp_path / "own"
    soundfile.write(path, np.stack([word, -word], axis=1), RATE)
    arguments = ["record", "lumos", "--input", str(path), "--out", str(own), "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["kept"] == []
    assert "the average of its channels is" in printed.err
    assert main([*arguments, "--channel", "3"]) == 4
    assert main([*arguments, "--channel", "2"]) == 0
    kept = json.loads(capsys.readouterr().out)["kept"]
    assert [entry["file"] for entry in kept] == [str(own / "lumos" / "me_1.wav")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "WORD... is missing"),
        (["anna", "--speaker", "anna"], "--speaker anna: is read as nobody"),
        (["a/b"], "WORD"),
        (["lumos", "--speaker", "an_na"], "--speaker an_na"),
        (["lumos", "nox", "--input", "x.wav"], "--input: goes with one WORD"),
        (["lumos", "--takes", "0"], "--takes"),
        (["lumos", "--longest", "5.5"], "--longest"),  # clips of a training end after 5 s
    ],
)
def test_invalid_options_are_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["record", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_words_spoken_into_a_microphone_are_found(plug, tmp_path):
    """The program asks, a real voice answers; each take holds the word that was asked for."""
    command = [sys.executable, "-m", "speechgru", "record", "yes", "stop", "--takes", "2"]
    process = subprocess.Popen(
        [*command, "--speaker", "anna", "--out", str(tmp_path / "own"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    voices = {
        word: sorted((embedded_corpus() / word).glob("*.ogg"))[:4] for word in ("yes", "stop")
    }
    for line in process.stderr:
        if line.startswith("say "):
            word = line.split()[1]
            clip = read(voices[word].pop(0))
            loud = np.concatenate([np.zeros(RATE // 2), 0.5 * clip / np.abs(clip).max()])
            soundfile.write(tmp_path / "word.wav", loud, RATE)
            plug("play", tmp_path / "word.wav")
    answer = json.loads(process.stdout.read())
    assert process.wait(60) == 0
    assert [entry["word"] for entry in answer["kept"]] == ["yes", "stop", "yes", "stop"]
    for entry in answer["kept"]:
        assert main(["recognize", entry["file"], "--json"]) == 0


@pytest.mark.slow
def test_talk_is_saved_when_the_terminal_is_closed(plug, tmp_path):
    command = [sys.executable, "-m", "speechgru", "record", "--talk", "600", "--json", "--out"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "own")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("talk for"):
            break
    soundfile.write(tmp_path / "talk.wav", spoken(1.0), RATE)
    plug("play", tmp_path / "talk.wav")
    plug("unplug")
    plug("plug")
    assert "waiting for it to come back" in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(read(json.loads(out)["talk"])) > RATE / 2
    assert "Expression" not in err  # PortAudio's own messages
