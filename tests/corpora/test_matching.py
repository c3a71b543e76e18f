"""Clips of another corpus to train with, at no higher rate than one's own."""

import shutil

import numpy as np
import pytest
import soundfile
from tones import RATE, shared_tones, tone

from speechgru.audio.files import read
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.matching import matching_clips, only_to_train
from speechgru.errors import DataError


def test_only_the_same_words_of_the_training_split(tmp_path):
    corpus = open_corpus(shared_tones())
    assert matching_clips(corpus, open_corpus(embedded_corpus()), tmp_path / "also") == ()
    same = matching_clips(corpus, corpus, tmp_path / "also")
    assert [clip.path for clip in same] == [clip.path for clip in corpus.split("training")]
    assert {clip.speaker for clip in same} == {"also a", "also b", "also c", "also d"}
    assert not (tmp_path / "also").exists()


def test_higher_rates_are_resampled_once(tmp_path):
    high = open_corpus(shared_tones())
    (tmp_path / "low").mkdir()
    for clip in high.clips:
        soundfile.write(tmp_path / "low" / clip.path.name, read(clip.path, 8_000), 8_000)
    manifest = tmp_path / "low" / "tones.csv"
    manifest.write_text(shared_tones().read_text())
    low = open_corpus(manifest)
    clips = matching_clips(low, high, tmp_path / "also")
    own = high.split("training")
    assert [clip.word for clip in clips] == [clip.word for clip in own]
    for clip, original in zip(clips, own, strict=True):
        samples, rate = soundfile.read(clip.path)
        assert rate == RATE // 2
        np.testing.assert_allclose(samples, read(original.path, 8_000), atol=2**-15)
    written = {clip.path: clip.path.stat().st_mtime_ns for clip in clips}
    again = matching_clips(low, high, tmp_path / "also")
    assert {clip.path: clip.path.stat().st_mtime_ns for clip in again} == written


@pytest.fixture
def pair(tmp_path):
    """Folders of recordings of two words by three speakers each, one of whom is in both."""
    for folder, speakers in (("mine", "abc"), ("more", "cde")):
        for word in ("low", "mid"):
            (tmp_path / folder / word).mkdir(parents=True)
            for speaker in speakers:
                samples = tone(word, ord(speaker) + 100 * (folder == "more"))
                soundfile.write(tmp_path / folder / word / f"{speaker}_1.wav", samples, RATE)
    return tmp_path / "mine", tmp_path / "more"


def test_no_recording_of_the_corpus_is_added(pair):
    mine, more = pair
    shutil.copy(mine / "low" / "a_1.wav", more / "low" / "x_7.wav")
    (more / "mid" / "y_7.wav").symlink_to(mine / "mid" / "b_1.wav")
    (more / "high").mkdir()
    shutil.copy(mine / "mid" / "b_1.wav", more / "high" / "y_7.wav")
    corpus = open_corpus(mine)
    other, notes = only_to_train(corpus, open_corpus(more), "--also more")
    assert {clip.path.name for clip in other.clips} == {"c_1.wav", "d_1.wav", "e_1.wav"}
    assert notes == (
        "--also more: 2 recordings left out that --data has, too",
        "--also more: has speakers named as in --data (c); if they are the same people, a fold "
        "by speaker trains with voices that it tests",
    )
    with pytest.raises(DataError, match=r"mine: nothing to train with; 6 recordings left out"):
        only_to_train(corpus, corpus, "--also mine")


def test_guessed_splits_do_not_matter_and_others_do(pair, tmp_path):
    mine, more = map(open_corpus, pair)
    assert len(more.split("training")) < 6
    other, _ = only_to_train(mine, more, "--also more")
    assert len(matching_clips(mine, other, tmp_path / "also")) == 6
    (pair[1] / "testing_list.txt").write_text("low/c_1.wav\nmid/c_1.wav\n")
    other, notes = only_to_train(mine, open_corpus(pair[1]), "--also more")
    assert {clip.speaker for clip in other.clips} == {"d", "e"}
    assert notes == ("--also more: 2 recordings of its other splits left out",)
