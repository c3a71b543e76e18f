import os
import sys
import time

import numpy as np
import pytest
from tone_listener import stream, tone_listener

from speechgru.audio.portaudio import quiet_native_code
from speechgru.audio.sources import Block
from speechgru.backends.pytorch import TorchBackend
from speechgru.decoding.events import Event
from speechgru.recognition.recognizer import open_recognizer
from speechgru.recognition.session import Heard, HeardEvent, Summary, listen

RATE = 16_000


def test_latency_has_what_passed_since_the_decisions_sample():
    samples, _ = stream(["low", "high"])
    recognizer = open_recognizer(TorchBackend(tone_listener()))
    # All of it was spoken 2 s ago, when the stream was over.
    began = time.monotonic() - len(samples) / RATE - 2.0
    events = [
        event for heard in listen(recognizer, [Block(samples, began)]) for event in heard.events
    ]
    assert [told.event.word for told in events] == ["low", "high"]
    for told in events:
        since_ms = 1000 * (time.monotonic() - began - told.event.t)
        assert 2_000 < told.delay_ms <= since_ms < told.delay_ms + 10_000
        assert told.latency_ms == told.delay_ms + told.event.latency_ms
        assert told.as_dict()["latency_ms"] == pytest.approx(told.latency_ms, abs=0.1)


def test_without_a_clock_latency_is_the_decoders_alone():
    samples, _ = stream(["mid"])
    heard = list(listen(open_recognizer(TorchBackend(tone_listener())), [Block(samples)]))
    (told,) = heard[0].events
    assert told.delay_ms == 0.0
    assert np.array_equal(heard[0].samples, samples)


def test_a_summary_counts_words_and_seconds_and_keeps_no_more_than_it_needs():
    summary = Summary(RATE)
    for i in range(5_000):
        event = HeardEvent(Event("go" if i % 2 else "stop", 0.0, 1.0, 0.9, 1.0), float(i % 100))
        summary.add(Heard(np.zeros(RATE // 10, np.float32), (event,)), overruns=i // 1_000)
    assert summary.seconds == 500.0
    assert summary.as_dict() == {
        "seconds": 500.0,
        "words": {"stop": 2_500, "go": 2_500},
        "latency_ms": {"p50": 49.5, "p95": 94.0},
        "overruns": 4,
    }
    assert len(summary._latencies_ms) == 1_000
    assert Summary(RATE).latency_ms() is None


def test_native_messages_are_hidden_and_pythons_are_not(capfd):
    with quiet_native_code(keep_python=True):
        os.write(2, b"Expression failed")
        print("told", file=sys.stderr)
    os.write(2, b"and again")
    said = capfd.readouterr().err
    assert "Expression" not in said
    assert "told" in said
    assert "and again" in said


def test_nested_hiding_ends_with_the_outermost(capfd):
    with quiet_native_code():
        with quiet_native_code():
            os.write(2, b"inner")
        os.write(2, b"outer")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
