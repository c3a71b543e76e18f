"""The stretch of a long recording that is scored, with the bundled model on words of people."""

import numpy as np
import pytest
import soundfile

from speechgru.audio import read
from speechgru.backends.loader import open_backend
from speechgru.corpora.embedded import embedded_corpus
from speechgru.modelfile.bundled import bundled_model
from speechgru.recognition.clips import recognize

RATE = 16_000
RNG = np.random.default_rng(0)
TIME_S, TWO_S = np.arange(RATE // 2) / RATE, np.arange(2 * RATE) / RATE

#: Sound of half a second and more, in the band of speech, that has more of it than the word.
OTHER_SOUNDS = {
    "beep": 0.25 * np.sin(2 * np.pi * 1000 * TIME_S),
    "hiss": RNG.normal(0, 0.05, RATE),
    "siren": 0.5 * np.sin(2 * np.pi * (300 + 750 * TWO_S) * TWO_S),
    "hum and thump": np.sin(2 * np.pi * 120 * TIME_S) * np.exp(-8 * TIME_S),
}


@pytest.fixture(scope="module")
def backend():
    return open_backend(bundled_model())


@pytest.fixture(scope="module")
def words(backend):
    """Of each word the clip of which the model is surest where nothing else is heard."""
    surest = {}
    for word in ("go", "right", "stop", "yes"):
        alone = {path: recognize(backend, path) for path in (embedded_corpus() / word).iterdir()}
        scores = {path: found.score for path, found in alone.items() if found.word == word}
        surest[word] = read(max(scores, key=scores.__getitem__))
    return surest


@pytest.mark.parametrize("sound", OTHER_SOUNDS)
@pytest.mark.parametrize("first", [True, False], ids=["word first", "word last"])
def test_the_word_is_found_beside_other_sounds(backend, words, tmp_path, sound, first):
    found = []
    for word, speech in words.items():
        speech = speech.copy()
        speech *= 0.3 / np.abs(speech).max()
        samples = RNG.normal(0, 1e-3, 5 * RATE)
        word_at, sound_at = (RATE // 2, 3 * RATE) if first else (3 * RATE, RATE // 2)
        samples[word_at : word_at + len(speech)] += speech
        samples[sound_at : sound_at + len(OTHER_SOUNDS[sound])] += OTHER_SOUNDS[sound]
        path = tmp_path / f"{word}.wav"
        soundfile.write(path, np.clip(samples, -1, 1), RATE)
        found.append(recognize(backend, path).word)
    assert found == [*words]


def test_where_no_stretch_has_a_word_the_loudest_one_is_scored(backend, tmp_path):
    samples = RNG.normal(0, 1e-3, 4 * RATE)
    samples[2 * RATE : 3 * RATE] += RNG.normal(0, 0.02, RATE)
    soundfile.write(tmp_path / "hiss.wav", samples, RATE)
    found = recognize(backend, tmp_path / "hiss.wav")
    assert found.word == "_silence_"
    assert found.start_s == pytest.approx(2.0, abs=0.1)
