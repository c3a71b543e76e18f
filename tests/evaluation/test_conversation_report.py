"""Recall by what comes before a command, and events in talk."""

import math

import numpy as np
import pytest
from tones import RATE

from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Event
from speechgru.evaluation.conversations import ConversationReport, commands_of
from speechgru.evaluation.events import score_events
from speechgru.evaluation.metrics import poisson_interval, wilson_interval
from speechgru.evaluation.streams import ArraySound, StreamCase, StreamOutput, StreamReport
from speechgru.recognition.state_policy import StatePolicy


def said(word, start, end):
    return SpokenWord(word=word, start=start, end=end)


#: Talk of 60 s, three commands, quiet, two commands, talk of 10 s and one right after it.
TRUTH = Truth(
    words=(
        said("go", 2.0, 2.5),
        said("_unknown_", 10.0, 70.0),
        said("go", 71.5, 72.0),
        said("no", 72.4, 73.0),
        said("go", 75.0, 75.5),
        said("no", 90.0, 90.5),
        said("go", 92.0, 92.5),
        said("_unknown_", 94.0, 104.0),
        said("no", 104.1, 104.6),
        said("_unknown_", 107.0, 107.8),
    )
)


def report_of(*events):
    found = [Event(word, t - 0.2, t, 0.9, t) for word, t in events]
    case = StreamCase(ArraySound(np.zeros(0, np.float32), RATE), TRUTH, {})
    scored = score_events(TRUTH, found, 120.0)
    output = StreamOutput(None, 120.0, None, tuple(found))
    return ConversationReport(StreamReport(case, DetectorConfig(), StatePolicy(), output, scored))


def test_what_comes_before_each_command():
    report = report_of()
    rows = [(c.pause_s, c.talk_s, c.place) for c in commands_of(TRUTH, report.events)]
    expected = [
        (math.inf, None, 1),
        (1.5, 60, 1),
        (0.4, 60, 2),
        (2.0, 60, 3),
        (14.5, None, 1),
        (1.5, None, 2),
        (0.1, 10, 1),
    ]
    for row, (pause_s, talk_s, place) in zip(rows, expected, strict=True):
        assert row == (pytest.approx(pause_s), talk_s and pytest.approx(talk_s), place)


def test_recall_by_pause_talk_and_place():
    report = report_of(("go", 2.6), ("go", 75.6), ("no", 90.6), ("no", 104.7))
    assert (report.recall.matched, report.recall.n) == (4, 7)
    assert (report.after_quiet.matched, report.after_quiet.n) == (2, 3)
    assert (report.after_talk.matched, report.after_talk.n) == (1, 2)
    assert [(r.matched, r.n) for *_, r in report.by_pause] == [(1, 1), (0, 0), (0, 1), (0, 0)]
    assert [(r.matched, r.n) for *_, r in report.by_talk] == [(0, 0), (1, 2), (0, 0)]
    assert [(place, r.matched, r.n) for place, r in report.by_place] == [(1, 0, 1), (3, 1, 1)]
    row = report.as_dict()["by_talk"][1]
    assert row == {
        **{"from_s": 30.0, "to_s": 120.0, "n": 2, "recall": 0.5},
        "ci95": list(wilson_interval(1, 2)),
    }
    assert report.as_dict()["by_talk"][2]["to_s"] is None
    assert report.as_dict()["by_pause"][1]["recall"] is None


def test_events_in_talk():
    """Also shortly after its end; a word that is taken for another one is no talk."""
    report = report_of(("go", 20.0), ("no", 70.3), ("go", 85.0), ("no", 107.5), ("go", 72.1))
    assert report.talk_events == 2
    assert report.talk_hours == pytest.approx(70 / 3600)
    assert report.talk_events_per_hour == pytest.approx(2 * 3600 / 70)
    low, high = (bound * 3600 / 70 for bound in poisson_interval(2))
    assert report.talk_events_ci95 == pytest.approx((low, high))
    assert len(report.events.false_alarms) == 4
