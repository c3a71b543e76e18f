"""Synthetic takes: what is written, similar words, engines, and splits that stay real."""

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from speechgru.audio.files import probe, read
from speechgru.corpora import open_corpus
from speechgru.corpora.check import check
from speechgru.corpora.own_recordings import OwnRecordings
from speechgru.corpora.synthetic import espeak, kokoro, piper
from speechgru.corpora.synthetic.engine import Delivery
from speechgru.corpora.synthetic.engines import open_engine
from speechgru.corpora.synthetic.similar import similar_words
from speechgru.corpora.synthetic.writing import synthesize
from speechgru.errors import DataError, SpeechGRUError, UsageError

RATE = 16_000
NORMAL = Delivery(1.0, 1.0)
needs_espeak = pytest.mark.skipif(not espeak.is_installed(), reason="espeak-ng is not installed")


class Beeps:
    """An engine that beeps; a text is pronounced as it is written."""

    name = "beeps"

    def voices(self):
        return ["en_a", "en_b", "en_c"]

    def speak(self, text, voice, delivery):
        time_s = np.arange(round(0.4 * RATE / delivery.speed)) / RATE
        beep = np.sin(2 * np.pi * 300 * delivery.pitch * time_s).astype(np.float32)
        return np.concatenate([np.zeros(RATE, np.float32), beep, np.zeros(RATE, np.float32)])

    def phonemes(self, texts):
        return [text.replace(" ", "") for text in texts]


def test_takes_have_voices_and_margins_and_are_kept_on_a_second_run(tmp_path):
    done = synthesize(tmp_path, ["lumos", "nox"], 3, Beeps())
    assert len(done.written) == 6
    assert done.voices == {"en_a", "en_b", "en_c"}
    samples = read(done.written[0])
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    assert probe(done.written[0]).rate == RATE
    assert abs(loud[0] / RATE - 0.15) < 0.01
    assert abs((len(samples) - loud[-1]) / RATE - 0.15) < 0.01
    again = synthesize(tmp_path, ["lumos", "nox"], 4, Beeps())
    assert (again.existing, len(again.written)) == (6, 2)


def test_the_same_seed_writes_the_same_takes(tmp_path):
    one, other, third = (
        synthesize(tmp_path / name, ["lumos"], 2, Beeps(), seed=seed).written
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert one[0].read_bytes() != third[0].read_bytes()


def test_similar_words_are_other_speech(tmp_path):
    done = synthesize(tmp_path, ["lumos"], 8, Beeps(), similar=True)
    assert len(done.similar["lumos"]) == 2
    corpus = open_corpus(tmp_path)
    assert corpus.words == ("lumos",)
    assert sum(clip.word == "_unknown_" for clip in corpus.clips) == 8


def test_synthetic_takes_are_for_training_alone_and_leave_other_splits_as_they_were(tmp_path):
    for speaker in ("anna", "ben", "cleo", "dora", "emil"):
        recordings = OwnRecordings(tmp_path, speaker, RATE)
        for word in ("lumos", "nox"):
            recordings.add(word, Beeps().speak(word, "", NORMAL))
    before = {clip.path: clip for clip in open_corpus(tmp_path).clips}
    synthesize(tmp_path, ["lumos", "nox"], 20, Beeps(), similar=True)
    corpus = open_corpus(tmp_path)
    made = [clip for clip in corpus.clips if clip.path not in before]
    assert {clip.path: clip for clip in corpus.clips if clip.path in before} == before
    assert {clip.split for clip in made} == {"training"}
    assert {clip.speaker for clip in made} == {f"made-beeps-en-{letter}" for letter in "abc"}
    assert OwnRecordings(tmp_path, "anna", RATE).count("lumos") == 1
    few = {str(finding) for finding in check(corpus).findings if finding.kind == "few_clips"}
    real = sum(c.split == "training" and c.word == "lumos" for c in before.values())
    assert f"lumos: {real} in training, besides 20 synthetic" in few


def test_one_speaker_is_split_by_take_however_many_synthetic_ones_there_are(tmp_path):
    recordings = OwnRecordings(tmp_path, "anna", RATE)
    for _ in range(12):
        recordings.add("lumos", Beeps().speak("lumos", "", NORMAL))
    before = {clip.path: clip.split for clip in open_corpus(tmp_path).clips}
    synthesize(tmp_path, ["lumos"], 20, Beeps())
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == "file"
    assert {c.path: c.split for c in corpus.clips if c.path in before} == before


def test_without_real_takes_synthetic_speakers_are_divided(tmp_path):
    synthesize(tmp_path, ["lumos", "nox"], 12, Beeps())
    corpus = open_corpus(tmp_path)
    speakers = [{clip.speaker for clip in corpus.split(s)} for s in ("training", "validation")]
    assert all(speakers)
    assert not set.intersection(*speakers)


def test_similar_words_sound_different_from_every_wanted_word():
    pronounce = Beeps().phonemes
    found = similar_words("bat", 30, pronounce, others=["bad"])
    assert found
    # "bad" is wanted, "pat" is "bat" in a voice that hardly tells b from p.
    assert not {"bat", "bad", "pat", "bet"} & set(found)


def test_parts_of_a_phrase_come_first_unless_they_are_wanted():
    pronounce = Beeps().phonemes
    assert similar_words("hey lumos", 5, pronounce)[:2] == ["hey", "lumos"]
    assert similar_words("hey lumos", 5, pronounce, others=["lumos"])[:1] == ["hey"]
    assert "lumos" not in similar_words("hey lumos", 5, pronounce, others=["lumos"])


def test_a_word_without_a_pronunciation_is_an_error():
    with pytest.raises(DataError, match="does not pronounce"):
        similar_words("lumos", 5, lambda texts: ["" for _ in texts])


def test_an_engine_that_says_nothing_is_an_error(tmp_path):
    class Mute(Beeps):
        def speak(self, text, voice, delivery):
            return np.zeros(100, np.float32)

    with pytest.raises(SpeechGRUError, match="says nothing for 'lumos'"):
        synthesize(tmp_path, ["lumos"], 1, Mute())


def test_names_of_words_are_checked(tmp_path):
    with pytest.raises(UsageError, match="WORD"):
        synthesize(tmp_path, ["../lumos"], 1, Beeps())


@needs_espeak
def test_espeak_varies_voice_speed_and_pitch():
    engine = espeak.Espeak("en")
    assert len(engine.voices()) > 100
    slow, fast = (engine.speak("lumos", "en-us+f3", Delivery(s, 1.0)) for s in (0.8, 1.25))
    assert len(slow) > 1.2 * len(fast)
    low, high = (engine.speak("lumos", "en-us+m3", Delivery(1.0, p)) for p in (0.85, 1.15))
    assert not np.array_equal(low, high)
    pronounce = espeak.Espeak("en-us").phonemes
    assert pronounce(["marvin", "hey lumos"]) == ["mˈɑːɹvɪn", "hˈeɪ lˈuːmoʊz"]


@needs_espeak
def test_espeak_refuses_a_language_that_it_does_not_have():
    with pytest.raises(UsageError, match="--language xx"):
        espeak.Espeak("xx")


def test_without_an_engine_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(piper, "find_spec", lambda name: None)
    monkeypatch.setattr(kokoro, "find_spec", lambda name: None)
    with pytest.raises(SpeechGRUError, match="no speech engine is installed: apt-get install"):
        open_engine(None, "en", None)
    for name in ("espeak-ng", "piper", "kokoro"):
        with pytest.raises(SpeechGRUError, match="is not installed"):
            open_engine(name, "en", None)


def test_engines_that_do_not_exist_or_lack_voices_are_usage_errors(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--engine festival"):
        open_engine("festival", "en", None)
    with pytest.raises(UsageError, match="not a folder"):
        open_engine(None, "en", tmp_path / "none")
    for module in (piper, kokoro):
        monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace())
    for name in ("piper", "kokoro"):
        with pytest.raises(UsageError, match="--voices DIR"):
            open_engine(name, "en", None)
        with pytest.raises(UsageError, match=f"--voices {tmp_path}"):
            open_engine(name, "en", tmp_path)


def test_a_folder_without_voices_is_named_whatever_is_installed(tmp_path, monkeypatch):
    for module in (piper, kokoro):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"{tmp_path}: holds no voice of Piper or Kokoro"):
        open_engine(None, "en", tmp_path)
    write_voice(tmp_path, "joe", "en-us", 1)
    with pytest.raises(SpeechGRUError, match="Piper is not installed"):
        open_engine(None, "en", tmp_path)


@pytest.fixture
def piper_package(monkeypatch):
    """A package with Piper's interface (piper-tts 1.8), which notes how it is called."""
    calls = []

    class PiperVoice:
        config = SimpleNamespace(sample_rate=22_050, length_scale=1.0)

        @staticmethod
        def load(path):
            return PiperVoice()

        def synthesize(self, text, config):
            calls.append((text, config.speaker_id, config.length_scale))
            yield SimpleNamespace(audio_float_array=np.full(22_050, 0.5, np.float32))

        def phonemize(self, text):
            return [list(text)]

    package = ModuleType("piper")
    package.PiperVoice = PiperVoice
    package.SynthesisConfig = SimpleNamespace
    monkeypatch.setitem(sys.modules, "piper", package)
    monkeypatch.setattr(piper, "find_spec", lambda name: SimpleNamespace())
    piper._load.cache_clear()
    return calls


def write_voice(folder: Path, name: str, language: str, speakers: int) -> None:
    (folder / f"{name}.onnx").touch()
    about = f'{{"espeak": {{"voice": "{language}"}}, "num_speakers": {speakers}}}'
    (folder / f"{name}.onnx.json").write_text(about, encoding="utf-8")


def test_piper_has_a_voice_for_each_speaker_of_the_language(piper_package, tmp_path):
    write_voice(tmp_path, "joe", "en-us", 1)
    write_voice(tmp_path, "many", "en-gb", 3)
    write_voice(tmp_path, "eva", "de", 1)
    engine = open_engine(None, "en", tmp_path)
    assert engine.voices() == ["joe", "many-0", "many-1", "many-2"]
    # A higher pitch is a faster playback, made up for by a slower delivery.
    samples = engine.speak("lumos", "many-2", Delivery(1.0, 1.25))
    assert piper_package == [("lumos", 2, 1.25)]
    assert len(samples) == pytest.approx(RATE / 1.25, abs=2)
    assert engine.phonemes(["hey"]) == ["hey"]


def test_the_description_of_a_piper_voice_must_be_one(piper_package, tmp_path):
    (tmp_path / "joe.onnx").touch()
    (tmp_path / "joe.onnx.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"joe\.onnx\.json: not the description"):
        open_engine("piper", "en", tmp_path)


def test_kokoro_has_the_voices_of_the_language(monkeypatch, tmp_path):
    """With the interface of kokoro-onnx 0.6."""
    calls = []

    class Kokoro:
        tokenizer = SimpleNamespace(phonemize=lambda text, language: f"{text} {language}")

        def __init__(self, network, voices):
            calls.append((Path(network).name, Path(voices).name))

        def get_voices(self):
            return ["af_heart", "bm_daniel", "ff_siwis"]

        def create(self, text, voice, speed, language):
            calls.append((text, voice, speed, language))
            return np.full(24_000, 0.5, np.float32), 24_000

    package = ModuleType("kokoro_onnx")
    package.Kokoro = Kokoro
    monkeypatch.setitem(sys.modules, "kokoro_onnx", package)
    monkeypatch.setattr(kokoro, "find_spec", lambda name: SimpleNamespace())
    for name in ("kokoro-v1.0.onnx", "voices-v1.0.bin"):
        (tmp_path / name).touch()
    engine = open_engine(None, "en", tmp_path)
    assert engine.voices() == ["af_heart", "bm_daniel"]
    samples = engine.speak("lumos", "bm_daniel", Delivery(1.0, 0.8))
    assert calls == [
        ("kokoro-v1.0.onnx", "voices-v1.0.bin"),
        ("lumos", "bm_daniel", 1.25, "en-gb"),
    ]
    assert len(samples) == pytest.approx(RATE / 0.8, abs=2)
    assert engine.phonemes(["hey"]) == ["hey en-us"]
    with pytest.raises(UsageError, match="language ja"):
        open_engine("kokoro", "ja", tmp_path)
