"""Word folders: who speaks, and splits by speaker that hold when recordings are added."""

import os
import shutil
import sys
import unicodedata
from collections import defaultdict
from hashlib import sha1
from pathlib import Path

import pytest

from speechgru.audio import pyav
from speechgru.corpora import SPLITS, Corpus, open_corpus
from speechgru.corpora.listing import (
    ARCHIVE,
    AROUND,
    DEAD_LINK,
    EMPTY,
    HIDDEN,
    LINKED_FOLDER,
    LOOSE,
    NEEDS_PYAV,
    NO_FILE,
    NOT_AUDIO,
    NOT_UTF8,
    RAW,
    RESERVED,
)
from speechgru.corpora.speakers import hash_split
from speechgru.errors import DataError

WORDS = ("auf", "zu")
MANY = [f"anna{number}" for number in range(40)]


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def speakers_by_split(corpus: Corpus) -> dict[str, set[str]]:
    found = defaultdict(set)
    for clip in corpus.clips:
        found[clip.split].add(clip.speaker)
    return found


@pytest.mark.parametrize(
    "pattern", ["{w}/{s}_1.wav", "{w}/{s}-7.FLAC", "{w}/{s}/x.ogg", "{w}/{w}_{s}_1.wav"]
)
def test_speakers_are_found_and_split_by_their_hash(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, *(pattern.format(w=w, s=s) for w in WORDS for s in MANY))
    corpus = open_corpus(tmp_path)
    assert (corpus.layout, corpus.split_by, len(corpus.clips)) == ("folders", "speaker", 80)
    assert {clip.speaker for clip in corpus.clips} == set(MANY)
    assert all(clip.split == hash_split(clip.speaker) for clip in corpus.clips)


def test_adding_files_and_speakers_moves_nobody(tmp_path: Path) -> None:
    make(tmp_path, *(f"{w}/{s}_1.wav" for w in WORDS for s in MANY))
    before = {clip.path: clip.split for clip in open_corpus(tmp_path).clips}
    more = [f"berta{number}" for number in range(40)]
    make(tmp_path, *(f"{w}/{s}_2.wav" for w in ("auf", "zu", "halt") for s in (*MANY, *more)))
    after = {clip.path: clip.split for clip in open_corpus(tmp_path).clips}
    assert len(after) > len(before)
    assert before.items() <= after.items()


@pytest.mark.parametrize("pattern", ["{w}/clip_{n}.wav", "{w}/{w}_{n}.wav", "{w}/{n}.wav"])
def test_names_that_tell_no_speaker_split_each_word_by_file(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, *(pattern.format(w=w, n=n) for w in WORDS for n in range(9)))
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == "file"
    for split in SPLITS:
        assert {clip.word for clip in corpus.split(split)} == {"auf", "zu"}


WHO = ("anna", "bob", "cleo", "dan", "eve")
#: How one speaker's recordings are called in practice.
NAMINGS = {
    "Windows": lambda word, n: f"{WHO[n // 3]} ({n % 3 + 1})",
    "glued": lambda word, n: f"{WHO[n // 3]}{n % 3 + 1}",
    "dots": lambda word, n: f"{WHO[n // 3]}.{n % 3 + 1}",
    "case": lambda word, n: f"{(WHO[n // 3], WHO[n // 3].title(), WHO[n // 3].upper())[n % 3]}_{n}",
    "word behind": lambda word, n: f"{WHO[n // 3]}{n % 3 + 1}_{word}",
    "number in front": lambda word, n: f"{n:02d}_{WHO[n // 3]}",
    "take in front": lambda word, n: f"take{n % 3 + 1}_{WHO[n // 3]}",
    "recorder in front": lambda word, n: f"REC {n:03d} {WHO[n // 3]}",
    "microphone": lambda word, n: f"mic_{n % 3}_{WHO[n // 3]}_{n}",
    "session": lambda word, n: f"session{n % 3}-{WHO[n // 3]}",
    "copies": lambda word, n: f"{WHO[n // 3]}{('', ' copy', ' copy 2')[n % 3]}",
    "copies of takes": lambda word, n: f"{WHO[n // 3]}{('1', '2', '3 (1)')[n % 3]}",
    "take in words": lambda word, n: f"{WHO[n // 3]} take {n % 3}",
    "numeral": lambda word, n: f"{WHO[n // 3]} take {('one', 'two', 'three')[n % 3]}",
    "glued in front": lambda word, n: f"{n % 3 + 1}{WHO[n // 3]}",
    "brackets in front": lambda word, n: f"({n % 3}) {WHO[n // 3]}",
    "list": lambda word, n: f"{n % 3}) {WHO[n // 3]}",
    "hash": lambda word, n: f"{WHO[n // 3]}#{n % 3}",
    "brackets": lambda word, n: f"{WHO[n // 3]}[{n % 3}]",
    "circled": lambda word, n: f"{WHO[n // 3]}{'①②③'[n % 3]}",
    "copies in front": lambda word, n: f"{('', 'Copy of ', 'Copy (2) of ')[n % 3]}{WHO[n // 3]}",
    "treated": lambda word, n: f"{WHO[n // 3]} {n % 3} denoised",
    "recoded": lambda word, n: f"{WHO[n // 3]}{n % 3}_16k",
    "altered": lambda word, n: f"{('', 'aug_', 'pitch-')[n % 3]}{WHO[n // 3]}_{n}",
    "distance": lambda word, n: f"{('near', 'mid', 'far')[n % 3]}_{WHO[n // 3]}",
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_no_naming_of_takes_leaks_a_speaker(tmp_path: Path, naming: str) -> None:
    make(tmp_path, *(f"{w}/{NAMINGS[naming](w, n)}.wav" for w in WORDS for n in range(15)))
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == "speaker"
    assert {clip.speaker.casefold() for clip in corpus.clips} == set(WHO)
    splits = defaultdict(set)
    for clip in corpus.clips:
        splits[next(who for who in WHO if who in clip.path.stem.casefold())].add(clip.split)
    assert all(len(of_speaker) == 1 for of_speaker in splits.values())
    assert len(corpus.guessed_speakers) == 5


@pytest.mark.parametrize(
    "naming",
    [
        lambda word, n: f"{n + 1:02d}_{word}",
        lambda word, n: f"202601{5 + n // 3:02d}_10{n:02d}{len(word):02d}",
        lambda word, n: f"{n // 3:03d}_{n % 3}",
        lambda word, n: f"Recording ({n})",
        lambda word, n: f"202601{5 + n // 3:02d}T10{n:02d}{len(word):02d}",
        lambda word, n: f"2026-01-{5 + n // 3:02d}T10:{n:02d}:00Z",
        lambda word, n: f"DR{n // 3:04d}_{n:04d}",
        lambda word, n: f"{n:08x}-aaaa-4bbb-8ccc-{len(word):012x}",
    ],
    ids=["takes", "dates", "numbers", "recorder", "ISO dates", "ISO times", "long", "UUID"],
)
def test_numbers_and_dates_are_no_speakers(tmp_path: Path, naming) -> None:
    make(tmp_path, *(f"{w}/{naming(w, n)}.wav" for w in WORDS for n in range(12)))
    corpus = open_corpus(tmp_path)
    assert (corpus.split_by, corpus.guessed_speakers) == ("file", ())


@pytest.mark.parametrize(
    "phrase", ["{0}_{1}_{n}", "{0}-{1}-{n:02d}", "{0}{1} ({n})", "{n}_{0}_{1}"], ids=str
)
def test_phrases_are_no_speakers(tmp_path: Path, phrase: str) -> None:
    for folder in ("lights on", "music_off", "door-open"):
        parts = folder.replace("_", " ").replace("-", " ").split()
        make(tmp_path, *(f"{folder}/{phrase.format(*parts, n=n)}.wav" for n in range(4)))
    corpus = open_corpus(tmp_path)
    assert (corpus.split_by, corpus.guessed_speakers) == ("file", ())


@pytest.mark.parametrize(
    "copy", ["{}_gain", "{} - Copy (2)", "aug_{}", "{}-pitch_up", "speed1.1_{}", "{} (Copy 2)"]
)
def test_copies_are_in_the_split_of_their_original(tmp_path: Path, copy: str) -> None:
    takes = [f"{n:02d}" for n in range(12)]
    make(tmp_path, *(f"{word}/{take}.wav" for word in WORDS for take in takes))
    before = {clip.path: clip.split for clip in open_corpus(tmp_path).clips}
    make(tmp_path, *(f"{word}/{copy.format(take)}.flac" for word in WORDS for take in takes))
    after = {clip.path: clip.split for clip in open_corpus(tmp_path).clips}
    assert len(after) == 2 * len(before)
    assert before.items() <= after.items()
    for path, split in before.items():
        assert after[path.with_name(f"{copy.format(path.stem)}.flac")] == split


def test_words_that_altered_copies_are_called_by_are_no_copies(tmp_path: Path) -> None:
    make(tmp_path, *(f"turn volume/turn_volume_{n}.wav" for n in range(12)))
    assert {clip.split for clip in open_corpus(tmp_path).clips} == set(SPLITS)


def test_speakers_of_folders_and_manifests_are_no_guess(tmp_path: Path) -> None:
    make(tmp_path, *(f"{w}/{s}/1.wav" for w in WORDS for s in WHO))
    assert open_corpus(tmp_path).guessed_speakers == ()
    lines = [f"{w}/{s}/1.wav,{w},{s}" for w in WORDS for s in WHO]
    (tmp_path / "list.csv").write_text("\n".join(["file,word,speaker", *lines]))
    corpus = open_corpus(tmp_path / "list.csv")
    assert (corpus.split_by, corpus.guessed_speakers) == ("speaker", ())


def test_skipped_files_are_listed_with_the_reason(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pyav, "find_spec", lambda name: None)
    pyav.is_installed.cache_clear()
    names = ("auf/a_1.wav", "zu/a_1.wave", "zu/b_1.au", "zu/c_1.caf")
    make(tmp_path, *names, "auf/b_1.m4a", "auf/notes.txt", "loose.wav", "README.md", "_odd_/a.wav")
    make(tmp_path / "elsewhere", "x.wav")
    (tmp_path / "auf" / "dead.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "auf" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "auf" / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "around").symlink_to("..")
    corpus = open_corpus(tmp_path)
    pyav.is_installed.cache_clear()
    assert len(corpus.clips) == len(names) + 1  # and the word elsewhere
    assert dict(corpus.skipped) == {
        "auf/b_1.m4a": NEEDS_PYAV.format(suffix=".m4a"),
        "auf/notes.txt": NOT_AUDIO,
        "auf/dead.wav": DEAD_LINK,
        "auf/linked": LINKED_FOLDER,
        "auf/loop.wav": DEAD_LINK,
        "loop": DEAD_LINK,
        "around": AROUND,
        "loose.wav": LOOSE,
        "_odd_/a.wav": RESERVED,
    }


def test_an_empty_corpus_says_what_was_skipped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pyav, "find_spec", lambda name: None)
    pyav.is_installed.cache_clear()
    make(tmp_path, "auf/a.m4a", "auf/b.m4a")
    with pytest.raises(DataError, match=r"2 skipped: \.m4a files need PyAV .*auf/a\.m4a"):
        open_corpus(tmp_path)
    pyav.is_installed.cache_clear()


def test_random_names_tell_no_speaker(tmp_path: Path) -> None:
    names = (
        f"{word}/{sha1(f'{word}{n}'.encode()).hexdigest()}" for word in WORDS for n in range(9)
    )
    make(tmp_path, *(f"{name}.wav" for name in names))
    assert open_corpus(tmp_path).split_by == "file"


def test_one_speaker_in_folders_splits_by_file(tmp_path: Path) -> None:
    make(tmp_path, *(f"{w}/anna/{n}.wav" for w in WORDS for n in range(5)))
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == "file"
    assert {clip.speaker for clip in corpus.clips} == {"anna"}
    assert all({c.word for c in corpus.split(split)} == {"auf", "zu"} for split in SPLITS)


def test_fsdd_has_every_word_and_other_speakers_in_each_split(fsdd: Path) -> None:
    corpus = open_corpus(fsdd)
    by_split = speakers_by_split(corpus)
    assert {clip.speaker for clip in corpus.clips} == {
        *("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    }
    assert sum(map(len, by_split.values())) == 6
    for split in SPLITS:
        assert {clip.word for clip in corpus.split(split)} == set(corpus.words)


def test_split_folders_are_recognized(tmp_path: Path) -> None:
    names = ("train/auf/a_1.wav", "train/zu/a_1.wav", "val/auf/b_1.wav", "test/zu/c_1.wav")
    corpus = open_corpus(make(tmp_path, *names, "train/_background_noise_/tap.wav"))
    assert corpus.split_by == "folders"
    assert [clip.split for clip in corpus.clips] == [
        "testing",
        "training",
        "training",
        "validation",
    ]
    assert corpus.noises == (tmp_path / "train/_background_noise_/tap.wav",)


@pytest.mark.parametrize(
    ("folders", "split"),
    [(("train", "eval", "test"), "validation"), (("train", "dev", "Eval"), "testing")],
)
def test_eval_is_a_split(tmp_path: Path, folders: tuple[str, ...], split: str) -> None:
    make(tmp_path, *(f"{folder}/{word}/a_1.wav" for folder in folders for word in WORDS))
    corpus = open_corpus(tmp_path)
    assert (corpus.split_by, corpus.words) == ("folders", WORDS)
    of_eval = [clip for clip in corpus.clips if clip.path.parts[-3].lower() == "eval"]
    assert {clip.split for clip in of_eval} == {split}


def test_a_split_alone_is_not_a_word(tmp_path: Path) -> None:
    corpus = open_corpus(make(tmp_path, "testing/auf/a_1.wav", "testing/zu/b_1.wav"))
    assert corpus.words == ("auf", "zu")
    assert {clip.split for clip in corpus.clips} == {"testing"}


def test_words_may_be_called_like_splits(tmp_path: Path) -> None:
    make(tmp_path, *(f"{w}/{s}_1.wav" for w in ("train", "test") for s in MANY))
    assert open_corpus(tmp_path).words == ("test", "train")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8_are_skipped_and_mentioned(tmp_path: Path) -> None:
    """Old archives have names in Latin-1, which no model's header can hold."""
    make(tmp_path, "auf/anna_1.wav", "zu/anna_1.wav")
    latin = os.fsdecode(b"J\xf6rg")
    for name in (f"auf/{latin}_1.wav", f"auf/{latin}/1.wav", f"{latin}/anna_1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "auf" / "anna_1.wav", tmp_path / name)
    corpus = open_corpus(tmp_path)
    assert corpus.words == ("auf", "zu")
    assert {name for name, _ in corpus.skipped} == {latin, f"auf/{latin}", f"auf/{latin}_1.wav"}
    assert {reason for _, reason in corpus.skipped} == {NOT_UTF8}


def test_hidden_recordings_are_skipped_and_mentioned(tmp_path: Path) -> None:
    names = ("auf/a_1.wav", "zu/a_1.wav", "auf/._a_1.wav", "auf/.DS_Store", ".git/x.wav")
    corpus = open_corpus(make(tmp_path, *names))
    assert len(corpus.clips) == 2
    assert corpus.skipped == (("auf/._a_1.wav", HIDDEN),)


def test_what_no_suffix_tells_is_skipped_with_its_reason(tmp_path: Path) -> None:
    make(tmp_path, "auf/a.wav", "auf/b.raw", "zu/A.WAV", "zu/b.Wave", "zu/c.SPH", "halt.zip")
    make(tmp_path, "zu/more.tar.gz")
    (tmp_path / "zu/gone").symlink_to("/gone/a")
    (tmp_path / "ab").symlink_to("/gone")
    (tmp_path / "an").mkdir()
    os.mkfifo(tmp_path / "zu/pipe.wav")
    corpus = open_corpus(tmp_path)
    assert len(corpus.clips) == 4
    assert corpus.skipped == (
        *(("ab", DEAD_LINK), ("an", EMPTY), ("auf/b.raw", RAW), ("halt.zip", ARCHIVE)),
        *(("zu/gone", DEAD_LINK), ("zu/more.tar.gz", ARCHIVE), ("zu/pipe.wav", NO_FILE)),
    )


def test_split_folders_may_have_papers_and_loose_recordings_beside_them(tmp_path: Path) -> None:
    names = ("train/auf/a_1.wav", "train/zu/a_1.wav", "test/auf/b_1.wav", "test/zu/b_1.wav")
    corpus = open_corpus(make(tmp_path, *names, "docs/readme.txt", "train/loose.wav"))
    assert (corpus.split_by, corpus.words) == ("folders", ("auf", "zu"))
    assert corpus.skipped == (("docs/readme.txt", NOT_AUDIO), ("train/loose.wav", LOOSE))


def test_what_says_where_noise_is_from_is_not_skipped_but_read_by_people(tmp_path: Path) -> None:
    noises = ("_background_noise_/README.md", "_background_noise_/tap.wav")
    names = ("on/a_1.wav", "on/LICENSE", "off/a_1.wav", *noises)
    assert open_corpus(make(tmp_path, *names)).skipped == (("on/LICENSE", NOT_AUDIO),)


def test_decomposed_names_are_the_same_words(tmp_path: Path) -> None:
    make(tmp_path, unicodedata.normalize("NFD", "über") + "/a_1.wav", "auf/a_1.wav")
    assert open_corpus(tmp_path).words == ("auf", unicodedata.normalize("NFC", "über"))


def test_what_is_not_a_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: not found; a directory of word folders"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found no recordings of words; expected DIR/word/file"):
        open_corpus(make(tmp_path, "a.wav", "empty/readme.txt"))


def test_a_word_of_few_speakers_can_be_trained(tmp_path: Path) -> None:
    """Whose only speaker would be for validation or testing by the hash."""
    speakers = [f"speaker{n}" for n in range(40)]
    rare = next(s for s in speakers if hash_split(s) == "validation")
    names = [f"{word}/{speaker}_1.wav" for word in ("often", "always") for speaker in speakers]
    make(tmp_path, *names, f"rare/{rare}_1.wav")
    corpus = open_corpus(tmp_path)
    assert {clip.split for clip in corpus.clips if clip.speaker == rare} == {"training"}
    assert all(corpus.split(split) for split in SPLITS)


def test_one_word_is_enough(tmp_path: Path) -> None:
    assert open_corpus(make(tmp_path, "auf/a.wav", "_silence_/b.wav")).words == ("auf",)
