"""The cost of listening, and `bench listen`."""

import json
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from tones import RATE, untrained_model

from speechgru.analysis.listening_cost import BARE_IMPORTS, measure_listening
from speechgru.analysis.measuring import PeakMemory, memory_bytes, peak_memory_bytes
from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.errors import UsageError
from speechgru.modelfile.safetensors import save_model

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_figures_are_consistent(tmp_path, capsys):
    save_model(untrained_model(), tmp_path / "m.safetensors")
    for _ in range(3):  # another program may slow down a whole minute
        assert main(["bench", "listen", str(tmp_path / "m.safetensors"), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        if printed["last_over_second"] == pytest.approx(1.0, abs=0.5):
            break
    assert printed["minutes"] == 3
    chunk = printed["chunk_us"]
    assert 0 < chunk["p50"] <= chunk["p95"] <= chunk["p99"]
    # The mean chunk, in seconds over its 20 ms, is the real-time factor.
    assert chunk["p50"] / 20_000 / 4 < printed["real_time_factor"] < chunk["p99"] / 20_000 * 4
    # With one thread, CPU time is no longer than the time by the clock.
    assert 0 < printed["cpu_real_time_factor"] < 1.5 * printed["real_time_factor"]
    assert printed["overhead_ratio"] > 1.0
    assert printed["bare_us"] > 0
    assert printed["last_over_second"] == pytest.approx(1.0, abs=0.5)
    assert printed["last_over_fresh"] == pytest.approx(1.0, abs=0.5)
    assert printed["peak_mb"] > 50
    assert printed["growth_mb_per_hour"] >= 0


class Clock:
    """A clock that only a `TimedBackend` advances."""

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
    """Takes 100 us per step and 50 us per call; the library's own call takes 120 us.

    Each call takes `slower_us` longer than the one before and leaks `leaked_bytes` of memory.
    """

    def __init__(self, clock, slower_us=0.0, leaked_bytes=0):
        super().__init__()
        self.clock, self.slower_us, self.leaked_bytes = clock, slower_us, leaked_bytes
        self.leaked = []
        self.answer = np.log([[0.9, *[0.1 / (len(self.labels) - 1)] * (len(self.labels) - 1)]])

    def __call__(self, samples, state):
        steps = len(samples) / self.step_samples
        self.clock.now_s += 1e-6 * (50 + 100 * steps + self.slower_us * len(self.blocks))
        if self.leaked_bytes:
            # Mapped memory, as the heap of a long test run has free room.
            leak = mmap.mmap(-1, self.leaked_bytes)
            leak.write(bytes([1]) * self.leaked_bytes)
            self.leaked.append(leak)
        self.blocks.append(len(samples))
        return np.repeat(self.answer, round(steps), axis=0), state

    def bare_step(self, samples, state):
        def call():
            self.clock.now_s += 120e-6

        return call


def test_times_follow_the_clock(clock):
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
    # A minute pushed at once is run in blocks of many steps, at 50 us per block.
    assert 0.02 / 150e-6 < cost.whole_speed <= 0.02 / 100e-6
    assert cost.last_over_second == pytest.approx(1.0)
    assert cost.last_over_fresh == pytest.approx(1.0)
    assert cost.growth_mb_per_hour < 100
    assert done == [(1, 3), (2, 3), (3, 3)]
    seconds = [sum(backend.blocks) / RATE for backend in opened]
    # Three minutes, the first one twice; then one at once, and one shared with the second.
    assert seconds == pytest.approx([360.0, 60.0])


def test_slowdown_and_memory_growth_are_detected(clock):
    cost = measure_listening(lambda: TimedBackend(clock, slower_us=0.05, leaked_bytes=16_384))
    # 6,000 calls precede the second minute, half of them bare; 9,000 the last one. The fastest
    # tenth of a minute are its first 300 chunks.
    assert cost.last_over_second == pytest.approx((150 + 465) / (150 + 315), rel=0.01)
    assert cost.last_over_fresh > 3
    assert cost.growth_mb_per_hour == pytest.approx(180_000 * 16_384 / 1e6, rel=0.1)


@pytest.mark.parametrize(
    ("held_mb", "growth_mb_per_hour"), [((100, 98, 99), 0), ((100, 103, 101), 90)]
)
def test_returned_memory_is_not_growth(clock, monkeypatch, held_mb, growth_mb_per_hour):
    """When other work in the process has ended, or the system is short of memory."""
    held = iter(held_mb)
    monkeypatch.setattr(
        "speechgru.analysis.listening_cost.memory_bytes", lambda: next(held) * 1_000_000
    )
    cost = measure_listening(lambda: TimedBackend(clock), minutes=4)
    assert cost.growth_mb_per_hour == pytest.approx(growth_mb_per_hour)


@pytest.mark.slow
def test_bench_listen_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("speechgru.analysis.listening_cost.PAIRS", 1)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    clips = open_corpus(embedded_corpus()).split("testing")
    stop = np.concatenate([read(clip.path, RATE) for clip in clips if clip.word == "stop"][:5])
    soundfile.write(tmp_path / "stop.wav", stop, RATE)
    assert main(["bench", "listen", "--start", str(tmp_path / "stop.wav"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["over_bare"] == pytest.approx(
        printed["first_event_s"] / printed["bare_imports_s"]
    )
    assert printed["bare_imports_s"] > 0.05
    assert 30 < printed["peak_mb"] < 150

    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE), RATE)
    assert main(["bench", "listen", "--start", str(tmp_path / "quiet.wav")]) == 4
    assert "recognizes no event in it" in capsys.readouterr().err.replace("\n", " ")


def test_a_recording_that_cannot_be_read_is_refused_at_once(tmp_path, capsys):
    assert main(["bench", "listen", "--start", str(tmp_path / "none.wav")]) == 4
    assert f"error: {tmp_path / 'none.wav'}: cannot be read" in capsys.readouterr().err


def test_at_least_three_minutes():
    with pytest.raises(UsageError, match="at least 3"):
        measure_listening(BandBackend, minutes=2)


def test_peak_memory_in_bytes():
    held = np.ones(25_000_000)
    assert 200e6 < peak_memory_bytes() < 100e9
    assert memory_bytes() <= 1.01 * peak_memory_bytes()
    assert held.nbytes == 200_000_000


def test_peak_memory_of_another_process():
    script = [sys.executable, "-c", BARE_IMPORTS]
    with subprocess.Popen(script, stdout=subprocess.PIPE) as process:
        memory = PeakMemory(process.pid)
        memory.start()
    memory.join(10)
    assert not memory.is_alive()
    assert 20e6 < memory.bytes < 500e6
