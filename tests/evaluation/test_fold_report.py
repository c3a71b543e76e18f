"""Folds together: shares with intervals, confusions, and the advice."""

import pytest

from speechgru.cli.tables.folds import print_folds
from speechgru.evaluation.fold_report import ClipOutcome, FoldResult, FoldsReport, StreamedWord
from speechgru.evaluation.metrics import mean_interval, poisson_interval, wilson_interval


def result(wrong=(), words=("on", "off", "up"), speakers="abcdefgh", takes=4, **more) -> FoldResult:
    """Every word by every speaker; `wrong` are (word, speaker, recognized) of the first take."""
    mistakes = {(word, speaker): recognized for word, speaker, recognized in wrong}
    clips = [
        ClipOutcome(
            file=f"{word}/{speaker}_{take}.wav",
            label=word,
            recognized=mistakes.get((word, speaker), word) if take == 0 else word,
            speaker=speaker,
        )
        for word in words
        for speaker in speakers
        for take in range(takes)
    ]
    return FoldResult(clips=tuple(clips), **more)


def report(*results: FoldResult, by="speaker") -> FoldsReport:
    return FoldsReport(by, results, {"on": 32, "off": 32, "up": 32, "_unknown_": 5})


def test_accuracy_and_confusions_are_of_all_folds():
    one = result([("on", "a", "off")], speakers="ab")
    two = result([("on", "c", "off"), ("up", "d", "on")], speakers="cd")
    found = report(one, two).as_dict()
    assert (found["n"], found["correct"], found["accuracy"]) == (48, 45, 45 / 48)
    assert found["folds"] == 2
    assert found["confusions"][0] == {
        "label": "on",
        "recognized": "off",
        "count": 2,
        "files": ["on/a_0.wav", "on/c_0.wav"],
    }
    assert next(iter(found["per_class"])) == "on"
    assert found["per_class"]["on"]["accuracy"] == 14 / 16
    assert set(found["by_speaker"]) == set("abcd")


def test_interval_is_wider_where_one_speaker_has_all_errors():
    spread = result([("on", speaker, "up") for speaker in "abc"], takes=1)
    same = result([(word, "a", "x") for word in ("on", "off", "up")], takes=1)
    low, high = wilson_interval(21, 24)
    assert report(same, by="take").accuracy["ci95"] == [low, high]
    by_speaker = report(same).accuracy["ci95"]
    assert by_speaker[0] < low
    assert by_speaker[1] >= high
    assert by_speaker[0] < report(spread).accuracy["ci95"][0]


def test_misses_and_false_alarms_per_hour():
    streamed = tuple(
        StreamedWord(word="on", speaker="a", outcome=outcome)
        for outcome in ("matched", "matched", "wrong", "missed")
    )
    one = result(streamed=streamed, events={"on": 2}, speech_hours=0.25)
    two = result(streamed=streamed[:2], events={"on": 1, "up": 1}, speech_hours=0.25)
    found = report(one, two)
    assert found.missed is not None
    assert (found.missed["missed"], found.missed["n"]) == (2, 6)
    alarms = found.false_alarms
    assert alarms is not None
    assert (alarms["events"], alarms["per_hour"]) == (4, 8.0)
    assert alarms["by_word"] == {"on": 3, "up": 1}
    low, high = poisson_interval(4)
    assert alarms["ci95"] == [low / 0.5, high / 0.5]


def test_word_error_rate_is_the_mean_of_the_folds():
    found = report(
        result(edits=1, sequence_words=10), result(edits=3, sequence_words=10)
    ).word_error_rate
    assert found is not None
    assert (found["mean"], found["by_fold"]) == (pytest.approx(0.2), [0.1, 0.3])
    low, high = mean_interval([0.1, 0.3])
    assert low < 0
    assert found["ci95"] == [0.0, high]
    assert "sequences" not in report(result()).as_dict()


def test_the_mean_of_one_fold_has_no_interval(capsys):
    found = report(result(edits=1, sequence_words=10))
    assert found.word_error_rate == {"mean": 0.1, "ci95": None, "by_fold": [0.1]}
    print_folds(found)
    assert "word errors    10.00 %; by fold: 10.0" in capsys.readouterr().out


def advice(*results: FoldResult, by="speaker") -> str:
    return report(*results, by=by).advice


def test_advice_names_what_costs_most():
    alarms = result([("on", "a", "up")], events={"off": 5}, speech_hours=0.5)
    assert "false alarms an hour, most of them 'off'" in advice(alarms)
    word = result([("on", speaker, "up") for speaker in "abcdef"])
    assert "'on' are worth most: it has 6 of the 6 errors, mostly taken for 'up'" in advice(word)
    speaker = result([(word, "c", "x") for word in ("on", "off", "up")])
    assert "More voices like 'c' are worth most: that speaker has 3" in advice(speaker)
    assert "No error in 96 tests" in advice(result())
    spread = result([("on", "a", "up"), ("off", "b", "up"), ("up", "c", "on")])
    assert "No word and no speaker stands out" in advice(spread)
    few = result([("on", "a", "up"), ("off", "b", "up"), ("up", "c", "on")], speakers="abc")
    assert "there are 3, and each new one is a stranger" in advice(few)


def test_advice_for_one_speaker_says_that_others_are_unknown():
    errors = result([("on", "a", "up"), ("off", "a", "up"), ("up", "a", "on")], speakers="a")
    assert "say nothing about other speakers" in advice(errors, by="take")
    assert "all by one speaker" in advice(result(speakers="a"), by="take")
