"""Recordings of words have speech in them, and noise has none, as the bundled model hears them."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import soundfile

from speechgru.audio.files import read
from speechgru.backends.loader import open_backend
from speechgru.corpora import open_corpus
from speechgru.corpora.check import SURELY_SPEECH, TALK_SHARE
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.other_sounds import other_sounds
from speechgru.modelfile.bundled import MODEL
from speechgru.recognition.speech import SpeechFinder

RATE = 16_000


@cache
def finder():
    return SpeechFinder(open_backend(MODEL))


@cache
def words():
    """By voices that no network has heard, of all words."""
    clips = open_corpus(embedded_corpus()).split("testing")
    return [read(clip.path, RATE) for clip in clips[::9]]


@cache
def noises():
    """A second each of everyday sounds."""
    sounds = (read(path, RATE) for path in other_sounds().noise("validation"))
    return [sound[RATE : 2 * RATE] for sound in sounds if len(sound) > 2 * RATE]


def test_words_are_speech_at_any_level():
    assert len(words()) > 25
    for word in words():
        heard = [finder()(np.float32(gain) * word) for gain in (1.0, 0.01)]
        assert heard[0] == pytest.approx(heard[1], abs=1e-3)
        assert heard[0] >= SURELY_SPEECH


def test_most_noise_is_none():
    assert len(noises()) > 10
    assert np.mean([finder()(noise) < SURELY_SPEECH for noise in noises()]) > 0.7
    rng = np.random.default_rng(0)
    hiss = [rng.normal(0, level, RATE).astype(np.float32) for level in (1e-4, 1e-2, 0.2)]
    assert max(map(finder(), hiss)) < SURELY_SPEECH


def test_a_word_in_noise_is_speech():
    for word, noise in zip(words(), noises(), strict=False):
        together = np.resize(noise, len(word) + RATE) / max(np.abs(noise).max(), 1e-3)
        together = np.float32(0.05) * together.astype(np.float32)
        together[RATE // 2 :][: len(word)] += np.float32(0.5) * word / np.abs(word).max()
        assert finder()(together) >= SURELY_SPEECH


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 700])
def test_what_is_too_short_for_a_word_has_none(samples):
    assert finder()(words()[0][:samples]) < SURELY_SPEECH


def test_silence_has_none():
    assert finder()(np.zeros(RATE, np.float32)) == 0


def test_only_the_beginning_of_a_long_recording_is_searched():
    long = np.concatenate([noises()[0]] * 10 + words())
    assert finder()(long) == pytest.approx(finder()(long[: 10 * RATE]))


def test_talk_among_noise_is_found_where_it_is(tmp_path):
    unlike_speech = [noise for noise in noises() if finder()(noise) < SURELY_SPEECH]
    sounds = np.concatenate([np.resize(noise, 3 * RATE) for noise in unlike_speech]) / 10
    quiet, talking = tmp_path / "quiet.wav", tmp_path / "talking.wav"
    soundfile.write(quiet, sounds, RATE)
    talk = np.concatenate([read(path, RATE) for path in other_sounds().speech("validation")[:6]])
    talk = talk[: 6 * RATE]
    sounds[9 * RATE :][: len(talk)] += talk
    soundfile.write(talking, sounds, RATE)
    assert finder().talk_in_file(quiet)[0] < TALK_SHARE / 2
    share, start_s = finder().talk_in_file(talking)
    assert share >= TALK_SHARE
    assert start_s == pytest.approx(9.5, abs=1.5)


def test_threads_hear_what_one_hears():
    sounds = [*words(), *noises()]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(finder(), sounds)) == [finder()(sound) for sound in sounds]
