"""`speechgru bench listen`: what listening costs."""

import json
import mmap
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from tones import RATE, untrained_model

from speechgru.analysis.listening_cost import measure_listening, peak_memory_mb
from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.errors import UsageError
from speechgru.modelfile.safetensors import save_model

PROJECT = Path(__file__).resolve().parents[2]


def test_the_figures_of_a_network(tmp_path, capsys):
    save_model(untrained_model(), tmp_path / "m.safetensors")
    assert main(["bench", "listen", str(tmp_path / "m.safetensors"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["minutes"] == 3
    chunk = told["chunk_us"]
    assert 0 < chunk["p50"] <= chunk["p95"] <= chunk["p99"]
    # The mean chunk, in seconds over its 20 ms, is the real-time factor.
    assert chunk["p50"] / 20_000 / 4 < told["real_time_factor"] < chunk["p99"] / 20_000 * 4
    # The processor is not at work for longer than the clock goes, with one thread.
    assert 0 < told["cpu_real_time_factor"] < 1.5 * told["real_time_factor"]
    assert told["overhead_ratio"] > 1.0
    assert told["bare_us"] > 0
    assert told["last_over_second"] == pytest.approx(1.0, abs=0.5)
    assert told["peak_mb"] > 50
    assert told["growth_mb_per_hour"] >= 0


class Clock:
    """A clock that goes on by what a backend says that it takes, and by nothing else."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("speechgru.analysis.listening_cost.perf_counter", clock)
    monkeypatch.setattr("speechgru.analysis.listening_cost.process_time", clock)
    return clock


class TimedBackend(BandBackend):
    """Takes 100 us a step and 50 us a call, of which another library's call is 120 us a step.

    With every call it has heard it takes `slower_us` longer, and keeps `kept_bytes` of memory.
    """

    def __init__(self, clock, slower_us=0.0, kept_bytes=0):
        super().__init__()
        self.clock, self.slower_us, self.kept_bytes = clock, slower_us, kept_bytes
        self.kept = []

    def __call__(self, samples, state):
        steps = len(samples) / self.step_samples
        self.clock.now_s += 1e-6 * (50 + 100 * steps + self.slower_us * len(self.blocks))
        if self.kept_bytes:
            # Mapped, as the heap of a long test run has room that is held already.
            kept = mmap.mmap(-1, self.kept_bytes)
            kept.write(bytes([1]) * self.kept_bytes)
            self.kept.append(kept)
        self.states.clear()
        return super().__call__(samples, state)

    def bare_step(self, samples, state):
        def call():
            self.clock.now_s += 120e-6

        return call


def test_times_are_what_the_clock_says(clock):
    opened, done = [], []

    def open_backend():
        opened.append(TimedBackend(clock))
        return opened[-1]

    cost = measure_listening(open_backend, progress=lambda n, of: done.append((n, of)))
    # A chunk is one step of 20 ms.
    assert cost.chunk_us == pytest.approx({"p50": 150.0, "p95": 150.0, "p99": 150.0})
    assert cost.real_time_factor == pytest.approx(150e-6 / 0.02)
    assert cost.cpu_real_time_factor == pytest.approx(150e-6 / 0.02)
    assert cost.bare_us == pytest.approx(120.0)
    assert cost.overhead_ratio == pytest.approx(150 / 120)
    # A minute at once is heard in blocks of many steps, with 50 us for each of those alone.
    assert 0.02 / 150e-6 < cost.whole_speed <= 0.02 / 100e-6
    assert cost.last_over_second == pytest.approx(1.0)
    assert cost.last_over_fresh == pytest.approx(1.0)
    assert cost.growth_mb_per_hour < 100
    assert done == [(1, 3), (2, 3), (3, 3)]
    heard_s = [sum(backend.blocks) / RATE for backend in opened]
    # The first also alone in its first minute, then a minute at once, and one beside the second.
    assert heard_s == pytest.approx([360.0, 60.0])


def test_a_backend_that_slows_down_and_grows_is_found_out(clock):
    cost = measure_listening(lambda: TimedBackend(clock, slower_us=0.05, kept_bytes=16_384))
    # By the second minute 6,000 calls were heard, 3,000 of them alone; by the last 9,000. A
    # tenth of a minute's chunks are the first 300.
    assert cost.last_over_second == pytest.approx((150 + 465) / (150 + 315), rel=0.01)
    assert cost.last_over_fresh > 3
    assert cost.growth_mb_per_hour == pytest.approx(180_000 * 16_384 / 1e6, rel=0.1)


@pytest.mark.parametrize(
    ("held_mb", "growth_mb_per_hour"), [((100, 98, 99), 0), ((100, 103, 101), 90)]
)
def test_memory_that_is_given_back_is_no_growth(clock, monkeypatch, held_mb, growth_mb_per_hour):
    """As a process does in which other work has ended, or whose system is short of memory."""
    held = iter(held_mb)
    monkeypatch.setattr("speechgru.analysis.listening_cost.held_memory_mb", lambda: next(held))
    cost = measure_listening(lambda: TimedBackend(clock), minutes=4)
    assert cost.growth_mb_per_hour == pytest.approx(growth_mb_per_hour)


def test_how_soon_listening_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("speechgru.analysis.startup_cost.PAIRS", 1)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    clips = open_corpus(embedded_corpus()).split("testing")
    stop = np.concatenate([read(clip.path, RATE) for clip in clips if clip.word == "stop"][:5])
    soundfile.write(tmp_path / "stop.wav", stop, RATE)
    assert main(["bench", "listen", "--start", str(tmp_path / "stop.wav"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["over_bare"] == pytest.approx(told["first_event_s"] / told["bare_imports_s"])
    assert told["over_bare"] > 1.0
    assert 30 < told["peak_mb"] < 150

    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE), RATE)
    assert main(["bench", "listen", "--start", str(tmp_path / "quiet.wav")]) == 4
    assert "hears no event in it" in capsys.readouterr().err.replace("\n", " ")


def test_two_minutes_cannot_be_compared():
    with pytest.raises(UsageError, match="at least 3"):
        measure_listening(BandBackend, minutes=2)


def test_peak_memory_is_in_megabytes():
    held = np.ones(25_000_000)
    assert 200 < peak_memory_mb() < 100_000
    assert held.nbytes == 200_000_000
