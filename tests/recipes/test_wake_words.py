"""The script that lays out a trial of wake words."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_script

from speechgru.corpora import open_corpus

RATE = 16_000
#: Voices of the training split; the fifth says only one of the words.
VOICES = [f"{number:08x}" for number in range(5)]
STRANGERS = {"validation": "aaaaaaaa", "testing": "bbbbbbbb"}


@pytest.fixture(scope="module")
def script():
    """Laying out few recordings of other words."""
    script = load_script("wake_words")
    script.SINGLES, script.PAIRS = 3, 2
    return script


def write_word(path: Path, seconds: float = 0.5) -> None:
    """A burst of noise in the middle of a second, with faint noise around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.001 * np.random.default_rng(0).standard_normal(RATE)
    half = round(seconds / 2 * RATE)
    samples[RATE // 2 - half : RATE // 2 + half] *= 200
    soundfile.write(path, samples, RATE)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The four sets: four words, and other sound."""
    root = tmp_path_factory.mktemp("recordings")
    wide = root / "gsc-wide"
    for word in ("happy", "zero", "bed", "cat"):
        for voice in [*VOICES, *STRANGERS.values()]:
            if word == "zero" or voice != VOICES[-1]:
                write_word(wide / word / f"{voice}_nohash_0.wav")
    for split, voice in STRANGERS.items():
        names = [f"{word}/{voice}_nohash_0.wav\n" for word in ("happy", "zero", "bed", "cat")]
        (wide / f"{split}_list.txt").write_text("".join(names))
    for number in range(4):
        write_word(root / "ambient-speech" / f"{number}.flac")
        write_word(root / "esc-10" / "rain" / f"{number}.ogg")
    said = {"anna": ("YES", "GO"), "ben": ("SEVEN ZERO", "NINE")}
    rows = []
    for speaker, texts in said.items():
        for number, text in enumerate(texts):
            write_word(root / "an4" / "utterances" / f"{speaker}-{number}.ogg")
            rows.append(f"{speaker}-{number}\t{speaker}\t{text}\n")
    (root / "an4" / "transcripts.tsv").write_text("".join(rows))
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_trial_has_takes_strangers_and_other_sound(script, recordings, tmp_path, capsys):
    out = tmp_path / "wake"
    command = [str(recordings), "--words", "happy,zero", "--out", str(out), "--voices", "3"]
    assert script.main(command) == 0
    assert "6 recordings of 3 voices" in capsys.readouterr().out
    takes = open_corpus(str(out / "takes"))
    assert {clip.word for clip in takes.clips} == {"happy", "zero"}
    assert {clip.speaker for clip in takes.clips} < {f"w{v}" for v in VOICES[:-1]}  # who said both
    strangers = open_corpus(str(out / "strangers.csv"))
    assert {clip.speaker for clip in strangers.split("testing")} == set(STRANGERS.values())
    assert [path.name for path in strangers.noises] == ["1.ogg", "3.ogg"]
    # Nothing that trains or ships, and nothing in which a word is said.
    assert names(out / "speech") == ["1.flac", "3.flac", "ben-1.ogg"]


def test_takes_of_a_word_are_by_different_speakers(script, recordings, tmp_path):
    out = tmp_path / "wake"
    command = [str(recordings), "--words", "happy,zero", "--out", str(out), "--takes", "4"]
    assert script.main(command) == 0
    for word in ("happy", "zero"):
        assert len({name.split("_")[0] for name in names(out / "takes" / word)}) == 4


def test_other_words_are_said_alone_and_in_pairs(script, recordings, tmp_path):
    for name, words, spoken_s in (("singles", "happy,zero", 0.5), ("pairs", "happy", 1.0)):
        out = tmp_path / name
        command = [str(recordings), "--words", words, "--out", str(out), "--voices", "4"]
        assert script.main(command) == 0
        samples, rate = soundfile.read(out / f"{name}.flac")
        count = {"singles": script.SINGLES, "pairs": script.PAIRS}[name]
        loud = np.abs(samples.reshape(count, -1)) > 10 * script.QUIET
        assert loud.sum(axis=1) / rate == pytest.approx(spoken_s, rel=0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("happy,nox", "--words nox: no recording of it in the training split"),
        ("happy,zero,bed", "there are fewer than two other words"),
    ],
)
def test_a_trial_without_a_part_is_refused(script, recordings, tmp_path, capsys, words, message):
    out = tmp_path / "wake"
    assert script.main([str(recordings), "--words", words, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "count", "message"),
    [
        ("--voices", "5", "--voices 5: 4 speakers said all the words"),
        ("--voices", "0", "--voices 0: 4 speakers"),
        ("--takes", "5", "--takes 5: 4 speakers said 'happy'"),
        ("--takes", "-1", "--takes -1: 4 speakers"),
    ],
)
def test_more_than_there_is_is_refused(
    script, recordings, tmp_path, capsys, option, count, message
):
    command = [str(recordings), "--words", "happy,zero", "--out", str(tmp_path / "wake")]
    assert script.main([*command, option, count]) == 2
    assert message in capsys.readouterr().err


def test_missing_sets_and_a_folder_that_is_there_are_refused(script, recordings, tmp_path, capsys):
    assert script.main([str(tmp_path), "--words", "happy", "--out", str(tmp_path / "new")]) != 0
    command = [str(recordings), "--words", "happy", "--out", str(tmp_path), "--takes", "1"]
    assert script.main(command) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "gsc-wide" in errors[0]
    assert errors[1] == f"error: {tmp_path}: cannot be written: File exists"
