"""CSV manifests: strict, and every error names its line."""

from pathlib import Path

import pytest

from speechgru.corpora import SPLITS, open_corpus
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
    for speaker in ("anna", "berta", "carl"):
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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file,wort", "a.wav,auf"), r"line 1: no column 'word'"),
        (("file,word,spaeker", "a.wav,auf,x"), r"line 1: .*'spaeker' .did you mean 'speaker'"),
        (("file,word,word", "a.wav,auf,x"), r"line 1: column 'word' appears twice"),
        (("a.wav,auf", "b.wav,zu"), r"line 1: no column 'file' or 'word'; a manifest is"),
        (("file;word", "a.wav;auf"), r"line 1: no column 'file' or 'word'"),
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
        (("file,word", 'a.wav,"auf'), r"not a CSV file"),
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
    with pytest.raises(DataError, match=r"flac: not a CSV file|flac, line 1: no column"):
        open_corpus(next(fsdd.glob("one/*.flac")))
