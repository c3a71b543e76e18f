"""Folds for cross-validation: by speaker, by take, and what each fold trains on."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.folds import make_folds
from speechgru.errors import DataError, UsageError


def corpus_of(speakers: str, takes: int, words=("on", "off"), other: int = 0) -> Corpus:
    clips = [
        Clip(Path(f"/c/{word}/{speaker or 'x'}_{take}.wav"), word, speaker, "training")
        for word in words
        for speaker in speakers or [""]
        for take in range(takes)
    ]
    clips += [
        Clip(Path(f"/c/_unknown_/{i}.wav"), "_unknown_", "", "training") for i in range(other)
    ]
    return Corpus(Path("/c"), "folders", tuple(clips))


def test_each_speaker_is_tested_in_one_fold_and_never_trained_on_there():
    corpus = corpus_of("abcdefg", takes=3)
    folds = make_folds(corpus, 3)
    assert (folds.by, folds.count, folds.by_take) == ("speaker", 3, ())
    tested = Counter()
    for fold in range(3):
        of_fold = folds.corpus(corpus, fold)
        testing = {clip.speaker for clip in of_fold.split("testing")}
        others = {c.speaker for c in of_fold.clips if c.split != "testing"}
        assert testing.isdisjoint(others)
        assert len(of_fold.clips) == len(corpus.clips)
        for split in SPLITS:
            assert {clip.word for clip in of_fold.split(split)} == {"on", "off"}
        tested.update(clip.path for clip in of_fold.split("testing"))
    assert set(tested.values()) == {1}
    assert len(tested) == len(corpus.clips)


@pytest.mark.parametrize("speakers", ["", "a"])
def test_takes_are_divided_where_there_is_one_speaker(speakers):
    corpus = corpus_of(speakers, takes=12)
    folds = make_folds(corpus)
    assert (folds.by, folds.count) == ("take", 5)
    for fold in range(5):
        of_fold = folds.corpus(corpus, fold)
        counts = Counter((clip.word, clip.split) for clip in of_fold.clips)
        for word in ("on", "off"):
            assert counts[word, "testing"] in (2, 3)
            assert counts[word, "validation"] >= 1
            assert counts[word, "training"] >= 5


def test_folds_do_not_change_with_the_order_of_the_clips():
    corpus = corpus_of("abcde", takes=2)
    turned = replace(corpus, clips=corpus.clips[::-1])
    one, two = make_folds(corpus, 4), make_folds(turned, 4)
    assert one.numbers == two.numbers[::-1]


def test_word_of_one_speaker_is_divided_by_take():
    corpus = corpus_of("abc", takes=3)
    alone = corpus_of("a", takes=4, words=("nox",))
    corpus = replace(corpus, clips=(*corpus.clips, *alone.clips))
    folds = make_folds(corpus)
    assert folds.by_take == ("nox",)
    for fold in range(folds.count):
        training = {clip.word for clip in folds.corpus(corpus, fold).split("training")}
        assert training == {"on", "off", "nox"}


def test_other_speech_is_tested_or_trained_on_but_does_not_validate():
    corpus = corpus_of("abc", takes=3, other=60)
    folds = make_folds(corpus)
    for fold in range(3):
        splits = Counter(
            clip.split for clip in folds.corpus(corpus, fold).clips if clip.word == "_unknown_"
        )
        assert splits == {"testing": 20, "training": 40}


def test_more_clips_are_only_for_training():
    corpus = corpus_of("abc", takes=3)
    more = corpus_of("z", takes=1).clips
    of_fold = make_folds(corpus).corpus(corpus, 0, more)
    assert set(more) < set(of_fold.split("training"))


def test_too_few_recordings_or_speakers_are_errors():
    with pytest.raises(DataError, match="2 recordings of 'on'; cross-validation needs at least 3"):
        make_folds(corpus_of("ab", takes=1))
    with pytest.raises(UsageError, match="--folds 4: there are only 3 speakers"):
        make_folds(corpus_of("abc", takes=3), 4)
    with pytest.raises(UsageError, match="--folds 9: there are only 4 takes of"):
        make_folds(corpus_of("a", takes=4), 9)


def test_synthetic_takes_are_only_trained_with():
    corpus = corpus_of("", takes=12)
    made = [
        Clip(Path(f"/c/{word}/made-{i}_1.wav"), word, f"made-{i}", "training")
        for word in ("on", "off")
        for i in range(9)
    ]
    mixed = replace(corpus, clips=(*made, *corpus.clips))
    folds = make_folds(mixed)
    assert (folds.by, folds.count) == ("take", 5)
    assert folds.numbers == (-1,) * len(made) + make_folds(corpus).numbers
    for fold in range(5):
        splits = {c.path: c.split for c in folds.corpus(mixed, fold).clips}
        assert {splits[clip.path] for clip in made} == {"training"}
        alone = {c.path: c.split for c in make_folds(corpus).corpus(corpus, fold).clips}
        assert {path: splits[path] for path in alone} == alone


def test_synthetic_takes_do_not_make_up_for_real_ones():
    corpus = corpus_of("", takes=12, words=("on",))
    made = [Clip(Path(f"/c/off/made-a_{i}.wav"), "off", "made-a", "training") for i in range(9)]
    with pytest.raises(DataError, match="0 recordings of 'off'"):
        make_folds(replace(corpus, clips=(*corpus.clips, *made)))


@pytest.mark.parametrize(("speakers", "others", "count"), [("ab", "u", 2), ("abcde", "uvw", 5)])
def test_speakers_of_other_speech_alone_take_no_fold_from_those_of_words(speakers, others, count):
    other = [
        Clip(Path(f"/c/_unknown_/{speaker}_{take}.wav"), "_unknown_", speaker, "training")
        for speaker in others
        for take in range(30)
    ]
    corpus = corpus_of(speakers, takes=12)
    corpus = replace(corpus, clips=(*corpus.clips, *other))
    folds = make_folds(corpus)
    assert (folds.by, folds.count, folds.by_take) == ("speaker", count, ())
    for fold in range(count):
        tested = folds.corpus(corpus, fold).split("testing")
        words = {(clip.word, clip.speaker) for clip in tested if clip.word != "_unknown_"}
        assert len({speaker for _, speaker in words}) == 1
        assert {word for word, _ in words} == {"on", "off"}


def test_words_of_one_speaker_each_are_divided_by_take():
    clips = corpus_of("a", takes=6, words=("on",)).clips
    clips += corpus_of("b", takes=6, words=("off",)).clips
    corpus = Corpus(Path("/c"), "folders", clips)
    folds = make_folds(corpus)
    assert (folds.by, folds.count, folds.by_take) == ("take", 5, ())
    assert make_folds(corpus, 5) == folds


def test_copies_of_a_take_are_in_its_fold_and_its_split():
    corpus = Corpus(
        Path("/c"),
        "folders",
        tuple(
            Clip(Path(f"/c/{word}/{take}{mark}.wav"), word, "", "training")
            for word in ("on", "off")
            for take in range(8)
            for mark in ("", "_pitch", " - Copy")
        ),
    )
    folds = make_folds(corpus)
    assert (folds.by, folds.count) == ("take", 5)
    for fold in range(5):
        of_fold = folds.corpus(corpus, fold)
        where = {}
        for clip in of_fold.clips:
            take = (clip.word, clip.path.name[0])
            assert where.setdefault(take, clip.split) == clip.split
        assert {(word, split) for (word, _), split in where.items()} == {
            (word, split) for word in ("on", "off") for split in SPLITS
        }
    few = replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.path.name < "2"))
    with pytest.raises(DataError, match="2 recordings of 'on'; cross-validation needs at least 3"):
        make_folds(few)


def test_takes_of_the_same_name_by_several_speakers_are_not_all_for_validation():
    """In `lights/anna/1.wav` only the folder tells whose it is."""
    words = [f"word{i}" for i in range(40)]
    corpus = Corpus(
        Path("/c"),
        "folders",
        tuple(
            Clip(Path(f"/c/{word}/{speaker}/1.wav"), word, speaker, "training")
            for word in words
            for speaker in "abcdefghij"
        ),
    )
    folds = make_folds(corpus)
    of_fold = folds.corpus(corpus, 0)
    validating = Counter(clip.word for clip in of_fold.split("validation"))
    assert set(validating) == set(words)
    assert max(validating.values()) < 5
