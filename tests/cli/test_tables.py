"""Tables with labels from elsewhere: nothing cut, nothing obeyed, wide letters counted."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from speechgru.cli import terminal
from speechgru.cli.tables.clips import print_clips
from speechgru.cli.tables.corpus import print_stats
from speechgru.cli.tables.streams import print_trials
from speechgru.cli.terminal import Terminal, padded
from speechgru.cli.views.events import event_line
from speechgru.corpora.corpus import Example
from speechgru.corpora.stats import CorpusStats, Summary
from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Event
from speechgru.evaluation.clip_report import ClipReport, save_confusion_picture
from speechgru.evaluation.events import score_events
from speechgru.evaluation.lettering import drawable
from speechgru.evaluation.tuning import Trial
from speechgru.recognition.session import TimedEvent
from speechgru.recognition.state_policy import CARRY

LABELS = {
    "short": tuple("abc"),
    "commands": tuple(f"command{number:02}" for number in range(12)),
    "phrases": tuple(f"turn the light in the {room} room on, please" for room in "abcdefgh"),
    "wide": ("右に曲がって", "左に曲がって", "まっすぐ進んで", "止まれ"),
    "hostile": ("[bold]x[/]", "\x1b[2Jclear", "two\nlines", "{0}", "$x^2$", "right\u202eleft"),
}


def report(labels: tuple[str, ...]) -> ClipReport:
    """Every label twice, once recognized and once taken for the next one."""
    count = len(labels)
    truth = np.repeat(np.arange(count), 2)
    scores = np.full((2 * count, count), -9.0, np.float32)
    for row, label in enumerate(truth):
        scores[row, label if row % 2 else (label + 1) % count] = 0.0
    examples = tuple(
        Example(Path(f"{row}.wav"), labels[i], labels[i], "anna") for row, i in enumerate(truth)
    )
    return ClipReport("folder", "testing", labels, examples, truth, scores)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_no_label_is_cut_and_no_line_is_too_wide(labels, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_clips(report(labels))
    printed = capsys.readouterr().out
    matrix = printed.split("\n\n")[0]
    assert "…" not in printed
    assert max(map(cell_len, printed.splitlines())) <= 80 or any(
        " taken for " in line for line in printed.splitlines() if cell_len(line) > 80
    )
    assert max(map(cell_len, matrix.splitlines())) <= 80
    together = "".join(printed.split())
    for label in labels:
        if label.isprintable():
            assert "".join(label.split()) in together


@pytest.mark.parametrize("columns", ["0", "1", "20", "40", "60"])
def test_narrow_terminals_lose_no_label_and_no_figure(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(terminal.out, "console", Terminal(stderr=False).console)
    print_clips(report(LABELS["short"]))
    printed = capsys.readouterr().out
    assert "…" not in printed
    figures = ["2", "1", "50.00", "9.45", "to", "90.55", "50.00"]
    rows = [line.split() for line in printed.splitlines() if line.split()[1:] == figures]
    assert [row[0] for row in rows] == list("abc")


@pytest.mark.parametrize("columns", ["40", "60", "80"])
def test_no_count_of_clips_is_cut(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    summary = Summary(12_345, 678, 9.87, 0.43, 1.0, 1.02, {16_000: 12_345})
    print_stats(CorpusStats(Path("c"), "folders", "speaker", {"all": summary}, {}, 0, 0.0, ()))
    printed = capsys.readouterr().out
    assert "…" not in printed
    for digit in "123456789":
        assert digit in printed


def test_what_a_terminal_would_obey_is_escaped(capsys):
    print_clips(report(LABELS["hostile"]))
    printed = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in printed)
    assert r"\x1b[2Jclear" in printed
    assert "[bold]x[/]" in printed


def test_columns_are_straight_with_wide_letters():
    words = ("go", "日本", "右に曲がって", "a" * 30)
    assert [cell_len(padded(word, 16)) for word in words] == [16, 16, 16, 30]
    lines = [event_line(TimedEvent(Event(word, 0.5, 0.9, 0.8, 1.0), 0.0)) for word in words[:3]]
    assert len({cell_len(line) for line in lines}) == 1


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_pictures_have_letters_for_all_labels(labels, tmp_path):
    """Or numbers: matplotlib warns of each letter that it does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_confusion_picture(report(labels), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1_000


def test_letters_that_no_font_has_are_replaced():
    assert drawable("left") == "left"
    assert drawable("left \U0010fffd", "3") == "3"
    assert drawable("left \U0010fffd") == "left ?"
    assert drawable("two\nlines") == "two\nlines"


def trials(*most_silence: float, misses: int = 0) -> list[Trial]:
    words = tuple(SpokenWord(word="go", start=s, end=s + 0.5) for s in range(1, 2 + misses))
    truth = Truth(words=words, duration_s=60.0)
    nothing_heard = score_events(truth, [], 60.0)
    configs = [DetectorConfig(most_silence=share) for share in most_silence]
    return [Trial(config, CARRY, nothing_heard) for config in configs]


def test_detectors_that_differ_only_in_a_limit_without_effect_are_one_row(capsys):
    print_trials([*trials(1.0, 0.1, 0.05), *trials(0.03, misses=1)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "carry" in line]
    assert [row[5] for row in rows] == ["1", "0.03"]


def test_a_limit_that_no_row_has_gets_no_column(capsys):
    print_trials([*trials(1.0, 0.1), *trials(1.0, misses=1)])
    printed = capsys.readouterr().out
    assert "lence" not in printed
    assert printed.count("carry") == 2
