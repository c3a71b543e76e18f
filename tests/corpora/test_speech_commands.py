"""Speech Commands directories: lists, the hash rule, the official test archive."""

import shutil
import unicodedata
from collections import Counter
from hashlib import sha1
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.corpora import Corpus, open_corpus
from speechgru.corpora.guesses import layout_guesses
from speechgru.corpora.protocols import make_task
from speechgru.corpora.speakers import hash_split
from speechgru.errors import DataError
from speechgru.labels import COMMANDS


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def splits(corpus: Corpus) -> dict[str, str]:
    return {clip.path.relative_to(corpus.root).as_posix(): clip.split for clip in corpus.clips}


def test_lists_split_whatever_suffix_they_name(tmp_path: Path) -> None:
    make(tmp_path, "yes/0a_nohash_0.flac", "yes/0b_nohash_0.flac", "no/0a_nohash_1.flac")
    (tmp_path / "validation_list.txt").write_text("no/0a_nohash_1.wav\r\n\r\nno/gone.wav\r\n")
    (tmp_path / "testing_list.txt").write_text("yes/0b_nohash_0.flac\n")
    corpus = open_corpus(tmp_path)
    assert (corpus.layout, corpus.split_by) == ("speech-commands", "lists")
    assert splits(corpus) == {
        "no/0a_nohash_1.flac": "validation",
        "yes/0a_nohash_0.flac": "training",
        "yes/0b_nohash_0.flac": "testing",
    }
    assert [clip.speaker for clip in corpus.clips] == ["0a", "0a", "0b"]


def test_a_file_in_both_lists_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "yes/a_nohash_0.wav", "no/a_nohash_0.wav")
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / name).write_text("yes/a_nohash_0.wav\n")
    with pytest.raises(
        DataError, match=r"testing_list.txt: yes/a_nohash_0.wav is also in validation_"
    ):
        open_corpus(tmp_path)


def test_binary_lists_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "yes/a_nohash_0.wav", "no/a_nohash_0.wav")
    (tmp_path / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"testing_list.txt: cannot be read as a list"):
        open_corpus(tmp_path)


def write_lists(root: Path, validation: str, testing: str, encoding: str = "utf-8") -> None:
    for split, text in (("validation", validation), ("testing", testing)):
        (root / f"{split}_list.txt").write_text(text, encoding=encoding)


def test_lists_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    make(tmp_path, "yes/a_1.wav", "yes/b_1.wav", "yes/c_1.wav")
    write_lists(tmp_path, "yes/a_1.wav\n", "yes/b_1.wav\n", encoding="utf-8-sig")
    corpus = open_corpus(tmp_path)
    assert list(splits(corpus).values()) == ["validation", "testing", "training"]
    assert corpus.notes == ()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lists_name_files_whether_accents_are_composed_or_not(tmp_path: Path, form: str) -> None:
    folder = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "café")
    make(tmp_path, f"{folder}/a_1.wav", f"{folder}/b_1.wav")
    written = unicodedata.normalize(form, "café")
    write_lists(tmp_path, f"{written}/a_1.wav\n", f"{written}/b_1.wav\n")
    assert list(splits(open_corpus(tmp_path)).values()) == ["validation", "testing"]


def test_lists_may_name_files_without_a_suffix(tmp_path: Path) -> None:
    make(tmp_path, "yes/a.1.wav", "yes/b_1.wav", "no/a.1.wav", "no/b_1.wav")
    write_lists(tmp_path, "yes/a.1\nno/a.1\n", "yes/b_1\nno/b_1\n")
    assert list(splits(open_corpus(tmp_path)).values()) == ["validation", "testing"] * 2


def test_names_in_lists_that_match_nothing_are_mentioned(tmp_path: Path) -> None:
    make(tmp_path, "yes/a_1.wav", "yes/b_1.wav")
    for path in tmp_path.glob("yes/*"):
        soundfile.write(path, np.full(16_000, 0.1), 16_000)
    write_lists(tmp_path, "Yes/a_1.wav\nmy-words/yes/b_1.wav\n", "yes/b_1.wav\nyes/c_1.wav\n")
    corpus = open_corpus(tmp_path)
    assert layout_guesses(corpus) == (
        "no recording matches 2 of the 2 names in validation_list.txt (first: Yes/a_1.wav)",
        "no recording matches 1 of the 2 names in testing_list.txt (first: yes/c_1.wav)",
    )
    with pytest.raises(DataError, match=r"the validation split has no clips; no recording matches"):
        make_task("folder", corpus).split("validation")


def test_other_speech_is_where_its_speakers_words_are(tmp_path: Path) -> None:
    make(tmp_path, *(f"{word}/{s}_1.wav" for word in ("yes", "_unknown_") for s in "abc"))
    make(tmp_path, *(f"_unknown_/talk_{n}.wav" for n in range(12)), "_unknown_/alarm_1.wav")
    write_lists(tmp_path, "yes/b_1.wav\n", "yes/c_1.wav\n")
    found = splits(open_corpus(tmp_path))
    assert [found[f"_unknown_/{s}_1.wav"] for s in "abc"] == ["training", "validation", "testing"]
    assert {found[f"_unknown_/talk_{n}.wav"] for n in range(12)} > {"training"}
    assert found["_unknown_/alarm_1.wav"] == "training"


def test_lists_split_other_speech_and_silence_that_they_name(tmp_path: Path) -> None:
    names = [f"{word}/{n}.wav" for word in ("_silence_", "_unknown_", "yes") for n in (1, 2)]
    make(tmp_path, *names)
    write_lists(tmp_path, "_silence_/1.wav\n_unknown_/1.wav\n", "")
    assert [*splits(open_corpus(tmp_path)).values()] == [
        *("validation", "testing", "validation", "training", "training", "training"),
    ]


def test_other_speech_beside_hashes_is_split_by_them(tmp_path: Path) -> None:
    speakers = [sha1(str(number).encode()).hexdigest()[:8] for number in range(60)]
    names = [f"{word}/{s}_nohash_0.wav" for word in ("yes", "no", "_unknown_") for s in speakers]
    corpus = open_corpus(make(tmp_path, *names))
    assert corpus.split_by == "speaker"
    assert all(clip.split == hash_split(clip.speaker) for clip in corpus.clips)


def test_other_speech_is_for_testing_where_all_words_are(tmp_path: Path) -> None:
    speakers = [sha1(str(number).encode()).hexdigest()[:8] for number in range(60)]
    tested = [speaker for speaker in speakers if hash_split(speaker) == "testing"]
    names = [f"yes/{speaker}_nohash_0.wav" for speaker in tested]
    corpus = open_corpus(make(tmp_path, *names, *(f"_unknown_/{n}.wav" for n in range(9))))
    assert {clip.split for clip in corpus.clips} == {"testing"}


def test_background_noise_is_not_a_word_and_silence_is_for_testing(tmp_path: Path) -> None:
    names = ("_background_noise_/tap.wav", "_silence_/1.wav", "yes/a_nohash_0.wav", "no/b.wav")
    make(tmp_path, *names, "_background_noise_/README.md", "testing_list.txt")
    corpus = open_corpus(tmp_path)
    assert corpus.noises == (tmp_path / "_background_noise_/tap.wav",)
    assert corpus.words == ("no", "yes")
    assert [clip.path.name for clip in corpus.split("testing")] == ["1.wav"]


def test_an_official_test_archive_is_all_testing(tmp_path: Path) -> None:
    names = [f"{word}/00f0204f_nohash_{n}.wav" for word in COMMANDS for n in range(2)]
    corpus = open_corpus(make(tmp_path, "_silence_/1.wav", "_unknown_/2.wav", *names))
    assert corpus.split_by == "archive"
    assert len(corpus.split("testing")) == len(corpus.clips) == 22


@pytest.mark.parametrize("words", [("yes", "no", "stop"), COMMANDS], ids=["three", "ten"])
def test_own_recordings_of_commands_are_no_test_archive(tmp_path: Path, words) -> None:
    speakers = [f"sp{number:02d}" for number in range(12)]
    names = [f"{word}/{s}_1.wav" for word in (*words, "_unknown_") for s in speakers]
    corpus = open_corpus(make(tmp_path, "_silence_/room_1.wav", *names))
    assert corpus.split_by == "speaker"
    assert all(corpus.split(split) for split in ("training", "validation", "testing"))


def test_own_words_beside_unknown_and_silence_are_no_test_archive(tmp_path: Path) -> None:
    speakers = [f"s{number}" for number in range(12)]
    names = [f"{word}/{s}_1.wav" for word in ("auf", "zu", "_unknown_") for s in speakers]
    corpus = open_corpus(make(tmp_path, "_silence_/1.wav", *names))
    assert corpus.split_by == "speaker"
    assert len(corpus.split("training")) > len(corpus.split("testing")) > 0


def test_the_hash_rule_agrees_with_the_published_lists(gsc_open: Path) -> None:
    """Its training clips and validation speakers are Google's; only the test speakers moved."""
    clips = [clip for clip in open_corpus(gsc_open).clips if clip.speaker]
    moved = Counter((hash_split(clip.speaker), clip.split) for clip in clips)
    assert len(clips) == 10_500
    assert {split for by_hash, split in moved if by_hash == "training"} == {"training"}
    assert {split for by_hash, split in moved if by_hash == "validation"} == {"validation"}


def test_gsc_open_is_read_as_its_readme_says(gsc_open: Path) -> None:
    corpus = open_corpus(gsc_open)
    assert Counter(clip.split for clip in corpus.clips) == {
        "training": 8_435,
        "validation": 1_586,
        "testing": 479 + 46,
    }
    assert (len(corpus.words), len(corpus.noises)) == (35, 6)
    assert list(corpus.clips) == sorted(corpus.clips, key=lambda clip: str(clip.path))
    speakers = [{c.speaker for c in corpus.split(s) if c.speaker} for s in ("training", "testing")]
    assert not speakers[0] & speakers[1]


def test_without_lists_the_hash_splits(gsc_open: Path, tmp_path: Path) -> None:
    for folder in ("yes", "no", "_silence_"):
        shutil.copytree(gsc_open / folder, tmp_path / folder)
    corpus = open_corpus(tmp_path)
    assert (corpus.layout, corpus.split_by) == ("speech-commands", "speaker")
    for clip in corpus.clips:
        assert clip.split == (hash_split(clip.speaker) if clip.speaker else "testing")


def test_clips_of_test_speakers_alone_stay_testing(gsc_open: Path, tmp_path: Path) -> None:
    for path in [*gsc_open.glob("yes/*"), *gsc_open.glob("no/*")]:
        if hash_split(path.name[:8]) == "testing":
            make(tmp_path, f"{path.parent.name}/{path.name}")
    assert {clip.split for clip in open_corpus(tmp_path).clips} == {"testing"}
