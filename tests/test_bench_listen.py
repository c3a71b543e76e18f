"""`speechgru bench listen`: what listening costs."""

import json
import mmap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from tones import RATE, untrained_model

from speechgru.audio import read
from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.errors import UsageError
from speechgru.evaluation.listening import measure_listening, peak_memory_mb
from speechgru.modelfile import save_model

PROJECT = Path(__file__).resolve().parents[1]


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


class SlowingBackend(BandBackend):
    """Takes longer with every chunk, and keeps what it heard."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def __call__(self, samples, state):
        until = time.perf_counter() + 5e-8 * len(self.blocks)
        # Mapped, as the heap of a long test run has room that is held already.
        kept = mmap.mmap(-1, 16_384)
        kept.write(bytes([1]) * 16_384)
        self.kept.append(kept)
        answer = super().__call__(samples, state)
        while time.perf_counter() < until:
            pass
        return answer


def test_a_backend_that_slows_down_and_grows_is_found_out():
    cost = measure_listening(SlowingBackend)
    assert cost.last_over_second > 1.05
    assert cost.last_over_fresh > 1.2
    assert cost.growth_mb_per_hour > 100


def test_a_backend_that_does_not_is_not():
    opened, done = [], []

    def open_backend():
        opened.append(BandBackend())
        return opened[-1]

    cost = measure_listening(open_backend, progress=lambda n, of: done.append((n, of)))
    assert cost.growth_mb_per_hour < 100
    assert cost.last_over_fresh == pytest.approx(1.0, abs=0.2)
    assert done == [(1, 3), (2, 3), (3, 3)]
    heard_s = [sum(backend.blocks) / RATE for backend in opened]
    # The first also alone in its first minute, then a minute at once, and one beside the second.
    assert heard_s == pytest.approx([360.0, 60.0])


def test_how_soon_listening_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("speechgru.evaluation.starting.PAIRS", 1)
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
