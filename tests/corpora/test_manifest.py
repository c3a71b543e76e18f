"""CSV manifests: strict, and every error names its line."""

import os
import unicodedata
from pathlib import Path

import pytest

from speechgru.corpora import SPLITS, open_corpus
from speechgru.corpora.guesses import layout_guesses
from speechgru.corpora.listing import RESERVED_WORD
from speechgru.errors import DataError


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c.wav", "tap.wav"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    path = folder / "clips.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_all_columns_in_any_order(here: Path) -> None:
    lines = ("split,word,file,speaker", "testing,auf,b.wav,anna", "training, zu ,a.wav,")
    corpus = open_corpus(write(here, *lines))
    assert (corpus.layout, corpus.split_by, corpus.root) == ("manifest", "manifest", here)
    first, second = corpus.clips
    assert (first.path, first.word, first.speaker, first.split) == (
        *(here / "b.wav", "auf", "anna", "testing"),
    )
    assert (second.word, second.split) == ("zu", "training")


def test_without_splits_speakers_are_split(here: Path) -> None:
    rows = []
    for speaker in ("anna", "berta", "carl", "dora", "emil"):
        for word in ("auf", "zu"):
            (here / f"{speaker}{word}.wav").touch()
            rows.append(f"{speaker}{word}.wav,{word},{speaker}")
    corpus = open_corpus(write(here, "file,word,speaker", *rows))
    assert corpus.split_by == "speaker"
    assert all({clip.word for clip in corpus.split(split)} == {"auf", "zu"} for split in SPLITS)


def test_only_files_and_words_split_by_file(here: Path) -> None:
    corpus = open_corpus(write(here, "\ufefffile,word", "a.wav,auf", "b.wav,zu", "", "c.wav,zu"))
    assert (corpus.split_by, len(corpus.clips)) == ("file", 3)


def test_background_noise_is_marked_by_its_word(here: Path) -> None:
    rows = ("a.wav,auf", "tap.wav,_background_noise_", "b.wav,zu")
    corpus = open_corpus(write(here, "file,word", *rows))
    assert corpus.noises == (here / "tap.wav",)
    assert corpus.words == ("auf", "zu")


def test_a_split_of_background_noise_is_ignored_and_mentioned(here: Path) -> None:
    rows = ["a.wav,auf,testing", "b.wav,auf,training", "tap.wav,_background_noise_,testing"]
    corpus = open_corpus(write(here, "file,word,split", *rows))
    assert layout_guesses(corpus) == (
        "the split of background noise is ignored (tap.wav: testing): every split gets a part of "
        "each background recording",
    )
    for rest in (rows[::2], [*rows[:2], "tap.wav,_background_noise_,"]):
        assert layout_guesses(open_corpus(write(here, "file,word,split", *rest))) == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file,wort", "a.wav,auf"), r"line 1: no column 'word'"),
        (("file,word,spaeker", "a.wav,auf,x"), r"line 1: .*'spaeker' .did you mean 'speaker'"),
        (("file,word,word", "a.wav,auf,x"), r"line 1: column 'word' appears twice"),
        (("a.wav,auf", "b.wav,zu"), r"line 1: no column 'file' or 'word'; a manifest is"),
        (("file;wort", "a.wav;auf"), r"line 1: no column 'word'"),
        (("file;word", "a.wav;auf;zu"), r"columns file;word; quote cells that have a semicolon"),
        (("FILE,Word,File", "a.wav,auf,x"), r"line 1: column 'file' appears twice"),
        (("file,word", "a.wav,auf", "x.wav,zu"), r"line 3: there is no file 'x.wav'"),
        (("file,word", ",auf"), r"line 2: .* is no file"),
        (("file,word", "a.wav, "), r"line 2: the word is empty"),
        (("file,word", "a.wav,auf,zu"), r"line 2: 3 cells under the 2 columns"),
        (("file,word", "a.wav,auf", "b.wav,zu", "a.wav,zu"), r"line 4: 'a.wav' is also in line 2"),
        (("file,word,split", "a.wav,auf,train"), r"line 2: split 'train'; a split is one of"),
        (
            ("file,word,split", "a.wav,auf,testing", "b.wav,zu,"),
            r"line 3: split '' after 'testing'",
        ),
        (("file,word", 'a.wav,"auf'), r"line 2: not a CSV file: .*; check the quotes"),
        (("file,word", "a.wav,auf", 'b.wav,"zu" ', "c.wav,zu"), r"line 3: not a CSV file: .*quote"),
        (("file,word",), r"clips.csv: no recordings"),
        (("file,word", f"{'x' * 3_000}.wav,auf"), r"line 2: there is no file 'x{56}\.\.\.;"),
        (("file,word,split", f"a.wav,auf,{'[' * 3_000}"), r"line 2: split '\[+\.\.\.; a split is"),
        ((), r"line 1: no column"),
    ],
)
def test_errors_name_the_line(here: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_corpus(write(here, *lines))
    assert "clips.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recording_is_no_manifest(fsdd: Path) -> None:
    with pytest.raises(DataError, match=r"flac: a recording; a directory of word folders or a CSV"):
        open_corpus(next(fsdd.glob("one/*.flac")))


@pytest.mark.parametrize("name", ["words.zip", "words.tar.gz", "words.TGZ", "words.7z"])
def test_an_archive_is_to_be_unpacked(here: Path, name: str) -> None:
    (here / name).write_bytes(b"PK\x03\x04\xff")
    with pytest.raises(
        DataError, match=rf"{name}: an archive, which must be unpacked first; a dir"
    ):
        open_corpus(here / name)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_separate_cells_as_they_like(here: Path, separator: str) -> None:
    rows = ("File,WORD,Speaker", "a.wav,auf,anna", '"b.wav",zu,bob', ",,", "")
    corpus = open_corpus(write(here, *(row.replace(",", separator) for row in rows)))
    assert [(clip.path.name, clip.word) for clip in corpus.clips] == [
        *(("a.wav", "auf"), ("b.wav", "zu")),
    ]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", r"clips.csv: is UTF-16; save it as CSV UTF-8$"),
        ("latin-1", r"clips.csv: is not UTF-8 text .*; save it as CSV UTF-8$"),
    ],
)
def test_other_encodings_are_named(here: Path, encoding: str, message: str) -> None:
    (here / "clips.csv").write_text("file,word\na.wav,größe\n", encoding=encoding)
    with pytest.raises(DataError, match=message):
        open_corpus(here / "clips.csv")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_files_are_found_whether_accents_are_composed_or_not(here: Path, form: str) -> None:
    (here / unicodedata.normalize("NFD" if form == "NFC" else "NFC", "é.wav")).touch()
    (clip,) = open_corpus(
        write(here, "file,word", unicodedata.normalize(form, "é.wav") + ",auf")
    ).clips
    assert clip.path.is_file()


def test_backslashes_separate_folders_unless_a_file_is_called_so(here: Path) -> None:
    for word in ("auf", "zu"):
        (here / word).mkdir()
        for speaker in ("anna", "bob", "cleo"):
            (here / word / f"{speaker}_1.wav").touch()
    rows = [
        f"{word}\\{speaker}_1.wav,{word}"
        for word in ("auf", "zu")
        for speaker in ("anna", "bob", "cleo")
    ]
    corpus = open_corpus(write(here, "file,word", *rows))
    assert {clip.speaker for clip in corpus.clips} == {"anna", "bob", "cleo"}
    if os.sep == "/":
        (here / "auf\\anna_1.wav").touch()
        first = open_corpus(write(here, "file,word", *rows)).clips[0]
        assert first.path == here / "auf\\anna_1.wav"


def test_words_that_begin_with_an_underscore_are_skipped_with_the_reason(here: Path) -> None:
    rows = ("a.wav,auf", "b.wav,_blank_", "c.wav,_boundary_", "tap.wav,_unknown_")
    corpus = open_corpus(write(here, "file,word", *rows))
    assert corpus.skipped == (("b.wav", RESERVED_WORD), ("c.wav", RESERVED_WORD))
    assert {clip.word for clip in corpus.clips} == {"auf", "_unknown_"}
