"""Other speech and noise that ship with the package."""

import zipfile
from io import BytesIO

import pytest

from speechgru.audio.files import probe
from speechgru.corpora.bundled_archives import archive_bytes
from speechgru.corpora.other_sounds import OtherSounds, other_sounds


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> OtherSounds:
    return other_sounds(tmp_path_factory.mktemp("cache"))


def test_no_speaker_trains_and_chooses(sounds):
    speakers = {
        split: {u.speaker for u in sounds.utterances if u.split == split}
        for split in ("training", "validation")
    }
    assert len(speakers["training"]) > 60
    assert len(speakers["validation"]) > 10
    assert not speakers["training"] & speakers["validation"]
    assert not set(sounds.noise("training")) & set(sounds.noise("validation"))


def test_utterances_with_an_own_word_are_left_out(sounds):
    everything = sounds.speech("training")
    without = sounds.speech("training", without=["Zero", "lumos"])
    left_out = set(everything) - set(without)
    said = {u.path: u.transcript for u in sounds.utterances}
    assert left_out
    assert all("zero" in said[path].split() for path in left_out)
    assert not any("zero" in (said[path] or "").split() for path in without)


def test_utterances_with_an_own_phrase_are_left_out(sounds):
    said = {u.path: u.transcript or "" for u in sounds.utterances}
    two = next(" ".join(text.split()[1:3]) for text in said.values() if len(text.split()) > 4)
    left_out = set(sounds.speech("training")) | set(sounds.speech("validation"))
    for split in ("training", "validation"):
        left_out -= set(sounds.speech(split, without=[two.title()]))
    assert left_out == {path for path, text in said.items() if f" {two} " in f" {text} "}
    assert left_out


def test_it_is_as_long_as_it_says_and_no_larger_than_it_may_be(sounds):
    minutes = sum(probe(u.path).duration_s for u in sounds.utterances) / 60
    assert 35 < minutes < 45
    assert len(archive_bytes("other_sounds")) < 10_000_000


def test_licences_lie_in_the_archive():
    with zipfile.ZipFile(BytesIO(archive_bytes("other_sounds"))) as archive:
        licence = archive.read("LICENSE").decode()
        assert {"LICENSE-an4", "ATTRIBUTION-esc-10.md"} <= set(archive.namelist())
    assert all(name in licence for name in ("LibriSpeech", "AN4", "ESC-10"))
