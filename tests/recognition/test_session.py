import os
import sys
import threading
import time

import numpy as np
import pytest
from tone_listener import stream, tone_listener

from speechgru.audio.native_messages import quiet_native_code
from speechgru.audio.sources import Block
from speechgru.backends.pytorch import TorchBackend
from speechgru.decoding.events import Event
from speechgru.recognition.recognizer import open_recognizer
from speechgru.recognition.session import BlockResult, Summary, TimedEvent, listen

RATE = 16_000


def test_latency_includes_the_delay_since_the_deciding_sample():
    samples, _ = stream(["low", "high"])
    recognizer = open_recognizer(TorchBackend(tone_listener()))
    # All of it was spoken 2 s ago, when the stream was over.
    started = time.monotonic() - len(samples) / RATE - 2.0
    events = [
        event
        for results in listen(recognizer, [Block(samples, started)])
        for event in results.events
    ]
    assert [timed.event.word for timed in events] == ["low", "high"]
    for timed in events:
        since_ms = 1000 * (time.monotonic() - started - timed.event.t)
        assert 2_000 < timed.delay_ms <= since_ms < timed.delay_ms + 10_000
        assert timed.latency_ms == timed.delay_ms + timed.event.latency_ms
        assert timed.as_dict()["latency_ms"] == pytest.approx(timed.latency_ms, abs=0.1)


def test_without_a_clock_there_is_no_delay():
    samples, _ = stream(["mid"])
    results = list(listen(open_recognizer(TorchBackend(tone_listener())), [Block(samples)]))
    (timed,) = results[0].events
    assert timed.delay_ms == 0.0
    assert np.array_equal(results[0].samples, samples)


def test_lost_samples_are_zeros_in_what_is_saved_and_take_their_time():
    recognizer = open_recognizer(TorchBackend(tone_listener()))
    block = Block(np.full(RATE, 0.1, np.float32), lost=800)
    results = list(listen(recognizer, [Block(np.full(RATE, 0.1, np.float32)), block]))
    saved = np.concatenate([result.samples for result in results])
    assert len(saved) == 2 * RATE + 800
    assert not saved[RATE : RATE + 800].any()
    assert recognizer.time_s == pytest.approx(len(saved) / RATE, abs=0.02)


def test_a_summary_counts_words_and_keeps_the_last_latencies():
    summary = Summary(RATE)
    for i in range(5_000):
        event = TimedEvent(Event("go" if i % 2 else "stop", 0.0, 1.0, 0.9, 1.0), float(i % 100))
        summary.add(BlockResult(np.zeros(RATE // 10, np.float32), (event,)), overruns=i // 1_000)
    assert summary.seconds == 500.0
    assert summary.as_dict() == {
        "seconds": 500.0,
        "words": {"stop": 2_500, "go": 2_500},
        "latency_ms": {"p50": 49.5, "p95": 94.0},
        "overruns": 4,
    }
    assert Summary(RATE).latency_ms() is None


def test_only_messages_of_native_code_are_hidden(capfd):
    with quiet_native_code(keep_python=True):
        os.write(2, b"Expression failed")
        print("python", file=sys.stderr)
    os.write(2, b"and again")
    printed = capfd.readouterr().err
    assert "Expression" not in printed
    assert "python" in printed
    assert "and again" in printed


def test_nested_hiding_ends_with_the_outermost(capfd):
    with quiet_native_code():
        with quiet_native_code():
            os.write(2, b"inner")
        os.write(2, b"outer")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_python_is_kept_where_it_cannot_be_told_apart(capfd, monkeypatch):
    """A program that uses the package, and whose messages go to the same descriptor."""
    with os.fdopen(2, "w", closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with quiet_native_code(keep_python=True):
            print("python", file=sys.stderr, flush=True)
    assert capfd.readouterr().err == "python\n"


def test_threads_hide_messages_until_the_last_one_has_ended(capfd):
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first():
        with quiet_native_code():
            first_is_in.set()
            second_is_in.wait(5)
        first_is_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(5)
    with quiet_native_code():
        second_is_in.set()
        assert first_is_out.wait(5)
        os.write(2, b"second")
    thread.join()
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
