"""Scoring of events against the truth: assignment and figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.decoding.events import Event
from speechgru.evaluation.events import score_events
from speechgru.evaluation.metrics import wilson_interval


def truth(*words):
    """From (word, start, end)."""
    spoken = tuple(SpokenWord(word=word, start=start, end=end) for word, start, end in words)
    return Truth(words=spoken)


def event(word, t):
    return Event(word, t - 0.3, t - 0.1, 0.9, t)


def counts(report):
    return len(report.matched), len(report.wrong), report.missed, len(report.false_alarms)


GO = ("go", 10.0, 10.5)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], (0, 0, 1, 0)),
        ([event("go", 10.6)], (1, 0, 0, 0)),
        ([event("go", 9.3)], (1, 0, 0, 0)),
        ([event("go", 11.24)], (1, 0, 0, 0)),
        ([event("go", 11.26)], (0, 0, 1, 1)),
        ([event("go", 9.2)], (0, 0, 1, 1)),
        ([event("stop", 10.6)], (0, 1, 0, 0)),
        ([event("go", 10.6), event("go", 11.0)], (1, 0, 0, 1)),
        ([event("stop", 10.2), event("go", 10.6)], (1, 0, 0, 1)),
        ([event("stop", 10.2), event("left", 10.6)], (0, 1, 0, 1)),
    ],
)
def test_word_with_events_near_it(events, expected):
    assert counts(score_events(truth(GO), events, 60.0)) == expected


def test_event_on_unknown_speech_is_a_false_alarm():
    report = score_events(truth(("_unknown_", 1.0, 1.5)), [event("go", 1.6)], 3600.0)
    assert counts(report) == (0, 0, 0, 1)
    assert report.false_alarms_per_hour == 1.0
    assert report.false_reject_rate == 0.0


def test_unknown_words_that_fire_are_counted_once():
    """Two of four have a false alarm near them, one of them two; another event is far away."""
    words = truth(GO, *(("_unknown_", start, start + 0.5) for start in (2.0, 5.0, 11.0, 20.0)))
    found = [event("go", t) for t in (2.6, 2.7, 5.6, 10.6, 40.0)]
    report = score_events(words, found, 60.0)
    assert counts(report) == (1, 0, 0, 4)
    assert [(spoken.start, event.t) for spoken, event in report.fired] == [(2.0, 2.6), (5.0, 5.6)]
    assert report.unknown_fire_rate == 0.5
    printed = report.as_dict()
    assert (printed["unknown_words"], printed["unknown_fired"]) == (4, 2)
    assert report.unknown_fire_ci95 == wilson_interval(2, 4)
    assert score_events(truth(GO), found, 60.0).unknown_fire_rate == 0.0


def test_neighbouring_words_get_events_with_their_label_first():
    """Events near several words are assigned by label first, then in order."""
    words = truth(("go", 1.0, 1.4), ("stop", 1.6, 2.0), ("go", 2.2, 2.6))
    report = score_events(words, [event("stop", 1.5), event("go", 2.1), event("go", 2.7)], 60.0)
    assert counts(report) == (3, 0, 0, 0)
    assert sorted((spoken.start, found.t) for spoken, found in report.matched) == [
        (1.0, 2.1),
        (1.6, 1.5),
        (2.2, 2.7),
    ]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=15),
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 32)), max_size=15),
)
def test_words_and_events_are_counted_once(words, events):
    spoken = truth(*((word, start, start + 0.4) for word, start in words))
    report = score_events(spoken, [event(word, t) for word, t in events], 40.0)
    matched, wrong, missed, alarms = counts(report)
    assert matched + wrong + missed == report.n == len(words)
    assert matched + wrong + alarms == len(events)
    assert min(matched, wrong, missed, alarms) >= 0
    assert report.errors == wrong + missed + alarms
    for word, found in (*report.matched, *report.wrong):
        assert word.start - 0.75 <= found.t <= word.end + 0.75
    assert all(word.word == found.word for word, found in report.matched)
    assert all(word.word != found.word for word, found in report.wrong)


def test_figures_with_intervals():
    words = truth(*(("go", 10.0 * i, 10.0 * i + 0.5) for i in range(20)))
    found = [event("go", 10.0 * i + 0.5 + 0.01 * i) for i in range(18)]
    report = score_events(words, [*found, event("go", 205.0), event("go", 208.0)], 1_800.0)
    printed = report.as_dict()
    assert printed["words"] == 20
    assert printed["false_reject_rate"] == pytest.approx(0.1)
    assert printed["false_reject_rate_ci95"] == list(wilson_interval(2, 20))
    assert printed["false_alarms_per_hour"] == pytest.approx(4.0)
    low, high = printed["false_alarms_per_hour_ci95"]
    assert low < 4.0 < high
    assert printed["hours"] == 0.5
    assert printed["latency_ms"]["p50"] == pytest.approx(85.0)
    assert printed["latency_ms"]["p95"] == pytest.approx(161.5)


def test_recall_by_minutes():
    words = truth(*(("go", 30.0 * i + 1, 30.0 * i + 1.5) for i in range(8)))
    found = [event("go", 30.0 * i + 1.6) for i in (0, 1, 2, 6, 7)]
    rows = score_events(words, found, 240.0).recall_by_minutes(1.0)
    assert [(row["from"], row["to"], row["n"], row["recall"]) for row in rows] == [
        (0, 1, 2, 1.0),
        (1, 2, 2, 0.5),
        (2, 3, 2, 0.0),
        (3, 4, 2, 1.0),
    ]
    to_its_end = score_events(words, found, 211.5).recall_by_minutes(211.5 / 60)
    assert [row["n"] for row in to_its_end] == [8]


@pytest.mark.parametrize(("minutes", "width"), [(3, 1), (20, 5), (90, 30), (1_440, 60)])
def test_bin_width_of_the_recall_table(minutes, width):
    assert score_events(truth(GO), [], 60.0 * minutes).bin_minutes == width


@pytest.mark.parametrize(("found_last", "lasts"), [(10, True), (9, True), (2, False)])
def test_recall_lasts(found_last, lasts):
    """Ten words in each of five minutes, all recognized except in the fifth; then 30 seconds."""
    starts = [60.0 * (n // 10) + 5.0 * (n % 10) + 1 for n in range(51)]
    spoken = truth(*(("go", start, start + 0.5) for start in starts))
    found = [event("go", start + 0.6) for start in starts[: 40 + found_last]]
    report = score_events(spoken, found, 330.0)
    first, last = report.ends_of_recall
    assert (first["from"], last["from"], last["to"]) == (0, 4, 5)
    assert last["recall"] == found_last / 10
    assert report.recall_lasts is lasts
    assert score_events(spoken, found, 100.0).recall_lasts is None


def test_no_latency_without_events():
    assert score_events(truth(GO), [], 60.0).latency_ms == {"p50": None, "p95": None}


def test_repeated_recordings_are_counted_once():
    """So that who reads the interval knows how many independent words there are."""
    named = [
        SpokenWord(word="go", start=float(i), end=i + 0.5, file=f"go/{i % 3}.wav") for i in range(9)
    ]
    report = score_events(Truth(words=tuple(named)), [], 20.0)
    assert (report.n, report.recordings) == (9, 3)
    assert report.as_dict()["recordings"] == 3
    assert score_events(truth(GO), [], 60.0).recordings is None
