"""Word folders: who speaks, and splits by speaker that hold when recordings are added."""

import os
import shutil
import sys
import unicodedata
from collections import defaultdict
from hashlib import sha1
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgru.audio import pyav
from speechgru.corpora import SPLITS, Corpus, open_corpus
from speechgru.corpora.listing import (
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
from speechgru.corpora.speakers import hash_percent, hash_split, speaker_in_name, split_speakers
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


WHO = ("anna", "bob", "cleo", "dan")
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
    "distance": lambda word, n: f"{('near', 'mid', 'far')[n % 3]}_{WHO[n // 3]}",
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_no_naming_of_takes_leaks_a_speaker(tmp_path: Path, naming: str) -> None:
    make(tmp_path, *(f"{w}/{NAMINGS[naming](w, n)}.wav" for w in WORDS for n in range(12)))
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == "speaker"
    assert {clip.speaker.casefold() for clip in corpus.clips} == set(WHO)
    splits = defaultdict(set)
    for clip in corpus.clips:
        splits[next(who for who in WHO if who in clip.path.stem.casefold())].add(clip.split)
    assert all(len(of_speaker) == 1 for of_speaker in splits.values())
    assert len(corpus.guessed_speakers) == 4


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


@pytest.mark.parametrize(
    ("name", "word", "speaker"),
    [
        ("yes/0a7c2a8d_nohash_0.wav", "yes", "0a7c2a8d"),
        ("yes/anna_b_nohash_0.wav", "yes", "anna_b"),
        ("yes/anna_3.wav", "yes", "anna"),
        ("yes/anna.wav", "yes", "anna"),
        ("yes/yes-anna-3.wav", "yes", "anna"),
        ("yes/yes_3.wav", "yes", ""),
        ("yes/yes.wav", "yes", ""),
        ("yes/12.wav", "yes", ""),
        ("yes/anna (3).wav", "yes", "anna"),
        ("yes/anna.3.wav", "yes", "anna"),
        ("yes/anna3.wav", "yes", "anna"),
        ("yes/anna_3 (2).wav", "yes", "anna"),
        ("yes/anna - Copy.wav", "yes", "anna"),
        ("yes/anna_yes_3.wav", "yes", "anna"),
        ("yes/Anna Maria 3.wav", "yes", "Anna Maria"),
        ("yes/03_anna.wav", "yes", "anna"),
        ("yes/20260105_anna_2.wav", "yes", "anna"),
        ("0/0_jackson_7.wav", "0", "jackson"),
        ("yes/speaker3.wav", "yes", "speaker3"),
        ("yes/Speaker_3_1.wav", "yes", "Speaker3"),
        ("yes/spk 3 take 2.wav", "yes", "spk3"),
        ("yes/sp03_1.wav", "yes", "sp03"),
        ("yes/anna3_1.wav", "yes", "anna3"),
        ("yes/007_2.wav", "yes", ""),
        ("0/0_01_7.wav", "0", ""),
        ("yes/03_yes.wav", "yes", ""),
        ("yes/20260105_101503.wav", "yes", ""),
        ("yes/2026-01-05 10.15.03.wav", "yes", ""),
        ("yes/Recording (3).wav", "yes", ""),
        ("yes/New Recording 12.wav", "yes", ""),
        ("yes/WhatsApp Audio 2026-01-05 at 10.15.03.wav", "yes", ""),
        ("turn on/turn on_anna_1.wav", "turn on", "anna"),
    ],
)
def test_the_speaker_in_a_name(name: str, word: str, speaker: str) -> None:
    assert speaker_in_name(name, word) == speaker


def test_the_hash_is_that_of_speech_commands() -> None:
    """By the first bytes of SHA-1("abc") = a9993e36 4706816a ba3e2571 7850c26c 9cd0d89d."""
    assert hash_percent("abc") == pytest.approx(100 * (0x9CD0D89D % 2**27) / (2**27 - 1))


def test_a_tenth_each_is_validation_and_testing() -> None:
    percents: dict[str, list[float]] = {split: [] for split in SPLITS}
    for number in range(20_000):
        percents[hash_split(str(number))].append(hash_percent(str(number)))
    assert max(percents["validation"]) < 10 < min(percents["testing"]) < 10.1
    assert 19.9 < max(percents["testing"]) < 20 < min(percents["training"]) < 20.1


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=4),
        st.sets(st.sampled_from(["auf", "zu", "halt", "los"]), min_size=1),
        min_size=3,
        max_size=30,
    )
)
def test_no_split_is_without_speakers(words_of: dict[str, set[str]]) -> None:
    splits = split_speakers(words_of)
    assert set(splits.values()) == set(SPLITS)
    hashed = {speaker: hash_split(speaker) for speaker in words_of}
    if set(hashed.values()) == set(SPLITS):
        trained = {
            word for who, words in words_of.items() if hashed[who] == "training" for word in words
        }
        few = 2 * list(hashed.values()).count("training") < len(hashed)
        # Moved, if at all, so that a word can be trained, or half of the speakers are.
        for speaker, split in splits.items():
            assert split == hashed[speaker] or (
                split == "training" and (few or words_of[speaker] - trained)
            )
    assert splits == split_speakers(dict(reversed(words_of.items())))


@given(st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=3, max_size=30))
def test_every_word_is_in_every_split_where_all_say_all(speakers: set[str]) -> None:
    splits = split_speakers({speaker: {"auf", "zu"} for speaker in speakers})
    assert set(splits.values()) == set(SPLITS)
    if set(map(hash_split, speakers)) != set(SPLITS):
        assert min(list(splits.values()).count(split) for split in SPLITS) == 1
    assert len(speakers) < 4 or 2 * list(splits.values()).count("training") >= len(speakers)


def test_common_names_do_not_leave_one_speaker_to_train_with() -> None:
    """The hashes of anna, ben, dora and emil are all below 20 %."""
    splits = split_speakers({s: {"auf", "zu"} for s in ("anna", "ben", "cleo", "dora", "emil")})
    assert sorted(splits.values()) == ["testing", *["training"] * 3, "validation"]


def in_training(count: int) -> list[str]:
    """Speakers whom the hash puts into training, the lowest hash first."""
    return sorted((s for s in MANY if hash_split(s) == "training"), key=hash_percent)[:count]


def test_splits_get_as_many_speakers_as_their_words_need() -> None:
    """Six training speakers, half say one word, half the other: each split needs one of each."""
    words_of = {s: {"auf" if place % 2 else "zu"} for place, s in enumerate(in_training(6))}
    splits = split_speakers(words_of)
    for split in SPLITS:
        assert {"auf", "zu"} == set().union(*(words_of[n] for n in words_of if splits[n] == split))


def test_speakers_with_most_words_are_moved_first() -> None:
    speakers = in_training(6)
    splits = split_speakers({s: {"auf"} if s == speakers[0] else {"auf", "zu"} for s in speakers})
    assert [splits[s] for s in speakers[:3]] == ["training", "validation", "testing"]
    assert list(splits.values()).count("training") == 4


def test_training_keeps_every_word() -> None:
    """Four speakers, four words, and each speaker lacks another one."""
    words = {"auf", "zu", "halt", "los"}
    words_of = {s: words - {word} for s, word in zip(in_training(4), sorted(words), strict=True)}
    splits = split_speakers(words_of)
    assert sorted(splits.values()) == ["testing", "training", "training", "validation"]
    assert words == set().union(*(words_of[s] for s in words_of if splits[s] == "training"))


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
    make(tmp_path, "auf/a.wav", "auf/b.raw", "zu/A.WAV", "zu/b.Wave", "zu/c.SPH")
    (tmp_path / "zu/gone").symlink_to("/gone/a")
    (tmp_path / "ab").symlink_to("/gone")
    (tmp_path / "an").mkdir()
    os.mkfifo(tmp_path / "zu/pipe.wav")
    corpus = open_corpus(tmp_path)
    assert len(corpus.clips) == 4
    assert corpus.skipped == (
        *(("ab", DEAD_LINK), ("an", EMPTY), ("auf/b.raw", RAW)),
        *(("zu/gone", DEAD_LINK), ("zu/pipe.wav", NO_FILE)),
    )


def test_split_folders_may_have_papers_and_loose_recordings_beside_them(tmp_path: Path) -> None:
    names = ("train/auf/a_1.wav", "train/zu/a_1.wav", "test/auf/b_1.wav", "test/zu/b_1.wav")
    corpus = open_corpus(make(tmp_path, *names, "docs/readme.txt", "train/loose.wav"))
    assert (corpus.split_by, corpus.words) == ("folders", ("auf", "zu"))
    assert corpus.skipped == (("docs/readme.txt", NOT_AUDIO), ("train/loose.wav", LOOSE))


def test_decomposed_names_are_the_same_words(tmp_path: Path) -> None:
    make(tmp_path, unicodedata.normalize("NFD", "über") + "/a_1.wav", "auf/a_1.wav")
    assert open_corpus(tmp_path).words == ("auf", unicodedata.normalize("NFC", "über"))


def test_what_is_not_a_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: not found; a directory of word folders"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no folder with recordings of a word"):
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
