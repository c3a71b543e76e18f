"""The script that sets other voices apart for testing."""

from collections import defaultdict
from pathlib import Path

import pytest
from scripts import load_script

from speechgru.corpora import open_corpus

VOICES = [f"{number:08x}" for number in range(12)]


@pytest.fixture(scope="module")
def script():
    return load_script("other_voices")


@pytest.fixture
def commands(tmp_path):
    """Twelve voices with two words twice each; one is for validation, one for testing."""
    root = tmp_path / "commands"
    for word in ("yes", "no"):
        (root / word).mkdir(parents=True)
        for voice in VOICES:
            for number in range(2):
                (root / word / f"{voice}_nohash_{number}.wav").touch()
    for list_name, voice in (("validation", VOICES[0]), ("testing", VOICES[1])):
        lines = [
            f"{word}/{voice}_nohash_{number}.wav" for word in ("yes", "no") for number in (0, 1)
        ]
        (root / f"{list_name}_list.txt").write_text("\n".join(lines))
    (root / "_silence_").mkdir()
    (root / "_silence_" / "0.wav").touch()
    return root


def voices(root: Path) -> dict[str, set[str]]:
    found = defaultdict(set)
    for clip in open_corpus(str(root)).clips:
        found[clip.split].add(clip.speaker)
    return found


def test_whole_voices_move_to_testing(script, commands, tmp_path, capsys):
    out = tmp_path / "others"
    assert script.main([str(commands), "--out", str(out), "--clips", "9"]) == 0
    assert capsys.readouterr().out == f"{out}: 12 clips of 3 voices for testing\n"
    found = voices(out)
    testing = found["testing"] - {""}  # silence is nobody's
    assert len(testing) == 3
    assert not testing & {VOICES[0], VOICES[1]}
    assert found["validation"] == {VOICES[0]}
    assert found["training"] == set(VOICES) - testing - {VOICES[0]}
    assert len(open_corpus(str(out)).clips) == len(open_corpus(str(commands)).clips)


def test_seed_determines_the_voices(script, commands, tmp_path):
    drawn = []
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        arguments = [str(commands), "--out", str(tmp_path / name), "--clips", "12"]
        assert script.main([*arguments, "--seed", str(seed)]) == 0
        drawn.append(voices(tmp_path / name)["testing"])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("change", "clips", "message"),
    [
        (lambda root: None, "40", "--clips 40: must be between 1 and 39"),
        (lambda root: None, "0", "--clips 0: must be between 1 and 39"),
        (lambda root: (root.parent / "out").mkdir(), "4", "out: cannot be written: File exists"),
        (
            lambda root: [one.unlink() for one in root.glob("*.txt")],
            "4",
            "commands: has no validation_list.txt or testing_list.txt",
        ),
    ],
)
def test_errors_of_other_voices(script, commands, tmp_path, capsys, change, clips, message):
    change(commands)
    assert script.main([str(commands), "--out", str(tmp_path / "out"), "--clips", clips]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
