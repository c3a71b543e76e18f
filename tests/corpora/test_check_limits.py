"""`data check` on what training would refuse, and on what it could not use."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from corpus_files import RATE, Corpus, noise, sound_corpus

from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.check import CheckReport, check
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.other_sounds import other_sounds
from speechgru.corpora.packed import pack
from speechgru.errors import DataError


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return sound_corpus(tmp_path)


def checked(corpus: Corpus) -> CheckReport:
    return check(open_corpus(corpus.manifest))


def found(corpus: Corpus) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.kind, f.detail, f.files) for f in checked(corpus).findings]


def test_recordings_too_long_to_train_with_are_errors(corpus, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_MAX_HOURS", "0.0005")
    name = corpus.add("_unknown_", noise(99, 1.9))
    report = checked(corpus)
    assert [(f.kind, f.severity, f.files) for f in report.findings] == [
        ("too_long", "error", (name,))
    ]
    assert report.findings[0].detail.startswith("lasts more than 0.0005 h; SPEECHGRU_MAX_HOURS")
    with pytest.raises(DataError, match="SPEECHGRU_MAX_HOURS"):
        pack(open_corpus(corpus.manifest))


def test_an_invalid_limit_is_no_fault_of_the_recordings(corpus, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_MAX_HOURS", "long")
    with pytest.raises(DataError, match="SPEECHGRU_MAX_HOURS=long"):
        checked(corpus)


def test_floats_with_the_values_of_integers_are_errors(corpus):
    samples = noise(99)
    name = corpus.add("yes", 32_767 / samples.max() * samples, subtype="FLOAT")
    corpus.add("yes", 2 * noise(98), subtype="FLOAT")
    report = checked(corpus)
    assert [(f.kind, f.severity, f.files) for f in report.findings] == [
        ("not_scaled", "error", (name,))
    ]
    assert report.findings[0].detail.startswith("samples reach 32,767, but float samples lie in")


def test_recordings_too_short_for_a_word_are_warnings(tmp_path):
    """Also where all are."""
    corpus = Corpus(tmp_path)
    for split in ("training", "validation", "testing"):
        for number in range(10):
            corpus.add("yes", noise(len(split) * 100 + number, 0.05), speaker=split, split=split)
    findings = found(corpus)
    assert {(kind, detail) for kind, detail, _ in findings} == {
        ("odd_length", "0.05 s; a word lasts 0.1 s or more")
    }
    assert len(findings) == 30


def test_words_without_a_clip_to_validate_or_test_are_warnings(corpus):
    for _ in range(10):
        corpus.add("maybe")
    corpus.add("maybe", speaker="boris", split="validation")
    assert found(corpus) == [("not_in_split", "maybe: no clip in testing", ())]


@pytest.mark.parametrize(("takes", "details"), [(10, []), (9, ["yes: 9 in all", "no: 9 in all"])])
def test_ten_takes_of_each_word_by_one_speaker_are_enough(tmp_path, takes, details):
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for number in range(takes):
            samples = noise(number + 100 * len(word))
            soundfile.write(tmp_path / word / f"anna_{number + 1}.wav", samples, RATE)
    findings = check(open_corpus(tmp_path)).findings
    assert sorted((f.kind, f.detail) for f in findings) == sorted(
        ("few_clips", detail) for detail in details
    )


def test_words_among_the_background_are_errors(tmp_path):
    for folder in ("yes", "no", "_background_noise_"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        for word in ("yes", "no"):
            samples = noise(number + 100 * len(word))
            soundfile.write(tmp_path / word / f"anna_{number}.wav", samples, RATE)
    shutil.copy(tmp_path / "yes" / "anna_3.wav", tmp_path / "_background_noise_" / "room.wav")
    findings = check(open_corpus(tmp_path)).findings
    assert [(f.kind, f.files) for f in findings] == [
        ("two_labels", ("yes/anna_3.wav", "_background_noise_/room.wav"))
    ]


@pytest.mark.parametrize(
    ("change", "details"),
    [
        (lambda one, other: one, []),
        (lambda one, other: one[: len(one) * 2 // 3], ["ends early, within a page"]),
        (lambda one, other: one[:-40], ["ends early, within a page"]),
        (
            lambda one, other: one[: one.rindex(b"OggS")],
            ["may end early: its last page is missing"],
        ),
        (
            lambda one, other: one + other,
            ["holds several recordings one after another, of which the first is read"],
        ),
    ],
)
def test_ogg_of_which_not_all_is_read_is_a_warning(tmp_path, change, details):
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for number in range(12):
            samples = noise(number + 100 * len(word), 2.0)
            soundfile.write(tmp_path / word / f"anna_{number}.ogg", samples, RATE)
    one, other = (tmp_path / "yes" / f"anna_{n}.ogg" for n in (0, 1))
    one.write_bytes(change(one.read_bytes(), other.read_bytes()))
    findings = check(open_corpus(tmp_path)).findings
    assert [f.detail for f in findings if f.kind == "incomplete"] == details


def test_silent_background_is_a_warning(tmp_path):
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for number in range(14):
            samples = noise(number + 100 * len(word))
            speaker = "abc"[min(2, max(0, number - 11))]
            soundfile.write(tmp_path / word / f"{speaker}_{number}.wav", samples, RATE)
    background = tmp_path / "_background_noise_"
    background.mkdir()
    word = np.concatenate([0.001 * noise(1), noise(2, 0.2)])  # which would be cut off
    for name, samples in {"zeros": np.zeros(RATE), "word": word}.items():
        soundfile.write(background / f"{name}.wav", samples, RATE, "PCM_24")
    findings = [f for f in check(open_corpus(tmp_path)).findings if f.kind != "few_clips"]
    assert [(f.kind, f.detail, f.files) for f in findings] == [
        ("silent", "all zeros", ("_background_noise_/zeros.wav",))
    ]


def test_noise_among_the_takes_of_a_word_is_named(tmp_path, capsys, monkeypatch):
    spoken = [read(c.path, RATE) for c in open_corpus(embedded_corpus()).clips if c.word == "go"]
    for number, samples in enumerate(spoken[:12]):
        take(tmp_path / "go" / f"anna_{number}.wav", samples)
    take(tmp_path / "go" / "anna_12.wav", noise(1))
    take(tmp_path / "go" / "anna_13.wav", np.zeros(RATE))
    for number in range(12):  # a word may be a whistle
        take(tmp_path / "whistle" / f"anna_{number}.wav", noise(100 + number))
    found = no_speech(tmp_path, capsys)
    assert found == [["go/anna_12.wav"]]
    monkeypatch.setattr("speechgru.cli.checking.MOST_SEARCHED", 20)
    assert no_speech(tmp_path, capsys) is None
    main(["data", "check", str(tmp_path)])
    assert "too many clips to search each for speech" in capsys.readouterr().out


def test_talk_among_the_noise_is_named(tmp_path, capsys):
    spoken = [read(path, RATE) for path in other_sounds().speech("validation")[:6]]
    take(tmp_path / "yes" / "anna_1.wav", noise(1))
    take(tmp_path / "_background_noise_" / "radio.wav", np.concatenate(spoken)[: 10 * RATE])
    take(tmp_path / "_background_noise_" / "hiss.wav", noise(2, 10.0))
    take(tmp_path / "_background_noise_" / "silent.wav", np.zeros(RATE))
    main(["data", "check", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    found = [f for f in report["findings"] if f["kind"] == "talk_in_noise"]
    assert [f["files"] for f in found] == [["_background_noise_/radio.wav"]]
    assert "s on; talk belongs in _unknown_" in found[0]["detail"]


def take(path, samples):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples, RATE)


def no_speech(directory, capsys):
    """The recordings without speech; None if they were not searched."""
    main(["data", "check", str(directory), "--json"])
    report = json.loads(capsys.readouterr().out)
    found = [f["files"] for f in report["findings"] if f["kind"] == "no_speech"]
    return found if report["listened"] else found or None
