"""`data stats`: sums that can be done by hand, and real corpora."""

import json
import math

import pytest
import soundfile
from corpus_files import Corpus, noise, sound_corpus

from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.stats import stats
from speechgru.errors import DataError


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """Word yes: 0.5, 1 and 3 s by two speakers in training; 8 kHz in testing."""
    corpus = Corpus(tmp_path)
    corpus.add("yes", noise(1, 0.5))
    corpus.add("yes", noise(2, 1.0), speaker="boris")
    corpus.add("yes", noise(3, 3.0))
    corpus.add("yes", noise(4, 2.0, 8_000), speaker="clara", split="testing", rate=8_000)
    corpus.add("no", noise(5, 1.5))
    return corpus


def test_sums_by_word_and_split(corpus):
    counted = stats(open_corpus(corpus.manifest))
    training = counted.words["yes"]["training"]
    assert (training.clips, training.speakers) == (3, 2)
    assert (training.min_s, training.median_s, training.max_s) == (0.5, 1.0, 3.0)
    assert training.hours == pytest.approx(4.5 / 3600)
    assert training.rates == {16_000: 3}
    everything = counted.words["yes"]["all"]
    assert (everything.clips, everything.speakers, everything.median_s) == (4, 3, 1.5)
    assert everything.rates == {16_000: 3, 8_000: 1}
    assert set(counted.words["yes"]) == {"training", "testing", "all"}
    assert set(counted.splits) == {"training", "testing", "all"}
    assert counted.splits["training"].clips == 4
    assert counted.splits["all"].hours == pytest.approx(8 / 3600)


def test_of_few_speakers_each_has_its_clips_by_split(corpus, capsys):
    assert stats(open_corpus(corpus.manifest)).speakers == {
        "anna": {"training": 3},
        "boris": {"training": 1},
        "clara": {"testing": 1},
    }
    assert main(["data", "stats", str(corpus.manifest)]) == 0
    assert ["boris", "1", "-", "-"] in [
        line.split() for line in capsys.readouterr().out.split("\n")
    ]
    for number in range(10):
        corpus.add("no", noise(50 + number), speaker=f"friend{'abcdefghij'[number]}")
    assert stats(open_corpus(corpus.manifest)).speakers == {}


def test_unreadable_files_are_listed_and_not_counted(corpus, capsys):
    corpus.list("yes/broken.wav", "yes", "anna", "training").write_bytes(b"text")
    counted = stats(open_corpus(corpus.manifest))
    assert counted.unreadable == (str(corpus.root / "yes/broken.wav"),)
    assert counted.words["yes"]["all"].clips == 4
    assert main(["data", "stats", str(corpus.manifest)]) == 0
    assert "1 recording cannot be read" in capsys.readouterr().out


def test_a_corpus_without_a_readable_file_is_an_error(tmp_path):
    corpus = Corpus(tmp_path)
    for word in ("yes", "no"):
        corpus.list(f"{word}/1.wav", word, "anna", "training").touch()
    with pytest.raises(DataError, match="none of its 2 recordings can be read"):
        stats(open_corpus(corpus.manifest))


def test_the_tables_fit_a_terminal(corpus, capsys):
    assert main(["data", "stats", str(corpus.manifest)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (yes,) = [line.split() for line in lines if line.startswith("yes")]
    assert yes == ["yes", "3", "-", "1", "3", "0.1", "0.50", "1.50", "3.00"]
    assert max(map(len, lines[1:])) <= 80


def test_speakers_of_whom_nothing_is_known_are_not_counted_as_none(tmp_path, capsys):
    for take in range(4):
        folder = tmp_path / "one" / "yes"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{take}.wav", noise(take, 0.5), 16_000)
    assert main(["data", "stats", str(tmp_path / "one")]) == 0
    (yes,) = [x.split() for x in capsys.readouterr().out.splitlines() if x.startswith("yes")]
    assert yes[4:] == ["-", "0.0", "0.50", "0.50", "0.50"]


def test_json_has_words_and_splits(corpus, capsys):
    assert main(["data", "stats", str(corpus.manifest), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["words"]["yes"]["testing"]["rates"] == {"8000": 1}
    assert reported["splits"]["all"]["clips"] == 5
    assert reported["layout"] == "manifest"


def test_progress_counts_every_recording(tmp_path):
    reported = []
    corpus = sound_corpus(tmp_path, clips=2)
    stats(open_corpus(corpus.manifest), lambda done, total: reported.append((done, total)))
    assert reported == [(done, 8) for done in range(1, 9)]


@pytest.mark.slow
def test_gsc_open_is_what_its_readme_says(gsc_open):
    counted = stats(open_corpus(gsc_open))
    assert sum(of["all"].clips for word, of in counted.words.items() if word[0] != "_") == 10_500
    assert counted.words["_silence_"]["all"].clips == 46
    assert counted.splits["validation"].clips == 1_586
    assert counted.splits["testing"].clips == 479 + 46
    assert counted.splits["training"].clips == 8_435
    assert counted.noises == 6
    assert counted.splits["all"].rates == {16_000: 10_546}
    assert not counted.unreadable
    parts = sum(counted.splits[s].hours for s in ("training", "validation", "testing"))
    assert math.isclose(parts, counted.splits["all"].hours)


def test_fsdd_is_what_its_readme_says(fsdd):
    counted = stats(open_corpus(fsdd))
    assert {word: of["all"].clips for word, of in counted.words.items()} == dict.fromkeys(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), 300
    )
    assert counted.splits["all"].speakers == 6
    assert counted.splits["all"].rates == {8_000: 3_000}
