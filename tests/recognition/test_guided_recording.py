"""Guided recording: which word is next, and what becomes of a take."""

import numpy as np
import pytest
from speech_like import room, spoken

from speechgru.audio.files import read
from speechgru.backends.loader import speech_finder
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.own_recordings import OwnRecordings
from speechgru.errors import UsageError
from speechgru.recognition.guided_recording import PATIENCE_S, GuidedRecording, Outcome, Prompt

RATE = 16_000


def session(tmp_path, words=("lumos", "nox"), takes=2) -> GuidedRecording:
    return GuidedRecording(words, takes, OwnRecordings(tmp_path, "anna", RATE))


def say(recording: GuidedRecording, *parts: np.ndarray):
    return recording.push(np.concatenate([room(0.8), *parts, room(0.8)]))


def test_words_are_asked_in_turn_until_all_takes_are_there(tmp_path):
    recording, asked = session(tmp_path), []
    while recording.prompt is not None:
        asked.append(recording.prompt.word)
        (outcome,) = say(recording, spoken(0.5))
        assert outcome.path.exists()
    assert asked == ["lumos", "nox", "lumos", "nox"]
    assert recording.remaining == 0
    assert say(recording, spoken(0.5)) == []


def test_a_bad_take_is_asked_again(tmp_path):
    recording = session(tmp_path)
    (outcome,) = say(recording, spoken(0.5, peak=0.013))
    assert (outcome.fault, outcome.path) == ("faint", None)
    assert recording.prompt.word == "lumos"
    assert recording.prompt.take == 1


def test_no_take_has_a_gap_in_it(tmp_path):
    recording, word = session(tmp_path), spoken(0.8)
    assert recording.push(np.concatenate([room(0.8), word[:4000]])) == []
    (outcome,) = recording.push(np.concatenate([word[8000:], room(0.8)]), lost=4000)
    assert (outcome.fault, outcome.path) == ("cut off", None)
    (again,) = say(recording, word)
    assert again.path.exists()


def test_the_margin_of_a_take_is_not_from_before_a_gap(tmp_path):
    recording, marked = session(tmp_path), room(1.0)
    marked[-1600:] = 0.0003  # the last sound before the gap
    recording.push(marked)
    (outcome,) = recording.push(np.concatenate([room(0.1), spoken(0.5), room(0.8)]), lost=8000)
    assert not np.isclose(outcome.take.samples, 0.0003, atol=1e-9).any()


def test_silence_is_told_and_asked_again(tmp_path):
    recording = session(tmp_path)
    outcomes = recording.push(room(2 * PATIENCE_S + 0.5))
    assert [outcome.fault for outcome in outcomes] == ["nothing", "nothing"]


def test_undo_asks_for_the_same_word_again(tmp_path):
    recording = session(tmp_path)
    (outcome,) = say(recording, spoken(0.5))
    assert recording.prompt.word == "nox"
    assert recording.undo() == outcome.path
    assert recording.prompt.word == "lumos"
    assert recording.undo() is None


def test_the_same_sound_is_not_recorded_twice(tmp_path):
    """A long recording is cut again, for more takes: those that are there stay as they are."""
    sound = np.concatenate([room(0.8), spoken(0.5), room(0.8), spoken(0.7), room(0.8)])

    def cut(takes: int) -> list[Outcome]:
        recordings = OwnRecordings(tmp_path, "anna", RATE)
        return GuidedRecording(["lumos"], takes, recordings, cuts_file=True).push(sound)

    (kept,) = cut(1)
    assert kept.fault is None
    repeated, added = cut(2)
    assert (repeated.fault, repeated.path) == ("repeated", None)
    assert added.path == tmp_path / "lumos" / "anna_2.wav"


def test_another_session_goes_on_where_the_first_ended(tmp_path):
    say(session(tmp_path), spoken(0.5))
    again = session(tmp_path)
    assert again.prompt.word == "nox"
    assert again.remaining == 3


def test_a_word_may_be_skipped(tmp_path):
    recording = session(tmp_path)
    recording.skip()
    assert {recording.prompt.word} == {"nox"}
    assert recording.remaining == 2


def test_undo_asks_again_for_a_word_that_was_skipped(tmp_path):
    recording = session(tmp_path, takes=3)
    for _ in range(2):
        say(recording, spoken(0.5))
    recording.skip()  # lumos
    assert recording.undo() == tmp_path / "nox" / "anna_1.wav"
    assert recording.prompt.word == "nox"
    assert recording.undo() == tmp_path / "lumos" / "anna_1.wav"
    assert recording.prompt == Prompt("lumos", 1, 3)
    assert recording.remaining == 6


def test_a_word_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match="each once"):
        session(tmp_path, words=("lumos", "lumos"))


def test_a_noise_is_saved_but_doubted(tmp_path):
    recordings = OwnRecordings(tmp_path, "anna", RATE)
    recording = GuidedRecording(["lumos"], 3, recordings, speech_in=speech_finder())
    rng = np.random.default_rng(0)
    hiss = (0.1 * rng.uniform(-1, 1, RATE // 2)).astype(np.float32)
    go = next(c.path for c in open_corpus(embedded_corpus()).clips if c.word == "go")
    noise, word = (say(recording, sound)[0] for sound in (hiss, read(go, RATE)))
    assert noise.path.exists()
    assert noise.is_doubtful
    assert not word.is_doubtful
    (not_asked,) = say(session(tmp_path / "other"), hiss)
    assert not_asked.speech is None
    assert not not_asked.is_doubtful
