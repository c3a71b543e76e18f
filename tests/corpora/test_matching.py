"""Clips of another corpus to train with, at no higher rate than one's own."""

import numpy as np
import soundfile
from tones import RATE, shared_tones

from speechgru.audio.files import read
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.matching import matching_clips


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
