"""What listening costs: time for each chunk and memory, over a long stream."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import Samples
from speechgru.common.progress import Progress
from speechgru.errors import UsageError
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import Recognizer, open_recognizer

CHUNK_S = 0.02
CHUNKS_A_MINUTE = round(60 / CHUNK_S)
#: The first one warms up, the second and the last one are compared.
FEWEST_MINUTES = 3
#: The first of a recognizer's chunks, which find nothing in the processor's cache.
_WARM_UP = 100


@dataclass(frozen=True)
class ListeningCost:
    """Cost of a stream in 20 ms chunks, after its first minute.

    `real_time_factor` is of the clock, `cpu_real_time_factor` of the processor: other programs
    lengthen the first. `chunk_us` are quantiles; `bare_us` is the median of the backend's bare
    call alone on the same chunks. `whole_speed` is how many times faster than it was spoken a
    minute is heard that comes at once, as a file does. `last_over_second` compares the two minutes'
    quick chunks (the tenth part), as other programs delay the slow ones. A shared processor may be
    half as fast an hour later, so `last_over_fresh` compares the recognizer with one that has just
    begun, in one minute, chunk by chunk in turns. `growth_mb_per_hour` is of the most memory that
    is held at a minute's end, over that of the first: what the process gives back does not count.
    """

    minutes: int
    real_time_factor: float
    cpu_real_time_factor: float
    chunk_us: dict[str, float]
    bare_us: float
    overhead_ratio: float
    whole_speed: float
    last_over_second: float
    last_over_fresh: float
    peak_mb: float
    growth_mb_per_hour: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_listening(
    open_backend: Callable[[], Backend],
    minutes: int = FEWEST_MINUTES,
    seed: int = 0,
    progress: Progress | None = None,
) -> ListeningCost:
    """Push `minutes` of sound, quiet and loud by turns, as fast as it goes, and two minutes more.

    Of those the first comes at once, the second beside a recognizer that has just begun. The
    backend is timed alone and within the recognizer in the first minute, turn by turn, so that what
    else the machine does weighs on both alike.

    Raises:
        UsageError: fewer than three minutes.
    """
    if minutes < FEWEST_MINUTES:
        raise UsageError(f"minutes {minutes}: at least {FEWEST_MINUTES} are needed, to compare two")
    backend = open_backend()
    recognizer = open_recognizer(backend)
    sound = _sound(round(CHUNK_S * backend.sample_rate), seed)
    pushed, bare = _pairs(backend, recognizer, sound, progress, minutes)
    # All that the measuring needs is there before memory is looked at.
    times_us = np.ones((minutes - 1, CHUNKS_A_MINUTE))
    gc.collect()
    early_mb = held_mb = 0.0
    cpu_s = process_time()
    for minute in range(minutes - 1):
        for i in range(CHUNKS_A_MINUTE):
            times_us[minute, i] = _timed_us(recognizer.push, next(sound))
        held_mb = max(held_mb, held_memory_mb())
        early_mb = early_mb or held_mb
        if progress is not None:
            progress(minute + 2, minutes)
    cpu_s = process_time() - cpu_s
    whole = np.concatenate([next(sound) for _ in range(CHUNKS_A_MINUTE)])
    whole_us = _timed_us(recognizer.push, whole)
    peak_mb = peak_memory_mb()  # before there are two
    fresh = _beside(recognizer, open_recognizer(open_backend()), sound)
    p50, p95, p99 = np.quantile(times_us, [0.5, 0.95, 0.99]).tolist()
    return ListeningCost(
        minutes=minutes,
        real_time_factor=float(times_us.mean()) / (1e6 * CHUNK_S),
        cpu_real_time_factor=cpu_s / (60 * (minutes - 1)),
        chunk_us={"p50": p50, "p95": p95, "p99": p99},
        bare_us=float(np.median(bare)),
        overhead_ratio=float(np.median(pushed) / np.median(bare)),
        whole_speed=60e6 / whole_us,
        last_over_second=_quick(times_us[-1]) / _quick(times_us[0]),
        last_over_fresh=fresh,
        peak_mb=peak_mb,
        growth_mb_per_hour=(held_mb - early_mb) / max(1, minutes - 2) * 60,
    )


def _quick(chunks_us: NDArray[np.float64]) -> float:
    """The time that a tenth of the chunks take at most."""
    return float(np.quantile(chunks_us, 0.1))


def _beside(old: Recognizer, fresh: Recognizer, sound: Iterator[Samples]) -> float:
    """How much longer `old` takes than `fresh` for the same minute, in turns."""
    times_us = np.ones((2, CHUNKS_A_MINUTE))
    for i in range(CHUNKS_A_MINUTE):
        chunk = next(sound)
        # The second finds the chunk in the cache: so they take turns at that, too.
        for which in (0, 1) if i % 2 else (1, 0):
            times_us[which, i] = _timed_us((old, fresh)[which].push, chunk)
    old_us, fresh_us = np.median(times_us[:, _WARM_UP:], axis=1)
    return float(old_us / fresh_us)


def peak_memory_mb() -> float:
    """The most memory that this process has held, in megabytes."""
    status = Path("/proc/self/status")
    told = status.read_text() if status.exists() else ""
    if "VmHWM:" in told:  # where getrusage counts what this process was forked from
        return int(told.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def held_memory_mb() -> float:
    """The memory that this process holds now, in megabytes; its most where only that is known."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_memory_mb()
    pages = int(statm.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _pairs(
    backend: Backend,
    recognizer: Recognizer,
    sound: Iterator[Samples],
    progress: Progress | None,
    minutes: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times of the recognizer and of the bare backend on the same chunks, first few left out.

    Of a backend that is no call of another library all is the bare call.
    """
    times_us = np.ones((2, CHUNKS_A_MINUTE))
    state = backend.initial_state()
    for i in range(CHUNKS_A_MINUTE):
        chunk = next(sound)
        times_us[0, i] = _timed_us(recognizer.push, chunk)
        bare_step = backend.bare_step(chunk, state)
        if bare_step is not None:
            times_us[1, i] = _timed_us(bare_step)
        started = perf_counter()
        _, state = backend(chunk, state)
        if bare_step is None:
            times_us[1, i] = 1e6 * (perf_counter() - started)
    if progress is not None:
        progress(1, minutes)
    return times_us[0, _WARM_UP:], times_us[1, _WARM_UP:]


def _timed_us(call: Callable[..., object], *chunk: Samples) -> float:
    started = perf_counter()
    call(*chunk)
    return 1e6 * (perf_counter() - started)


def _sound(chunk: int, seed: int) -> Iterator[Samples]:
    """Chunks without end: a second of noise, a second of hardly any."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (50, chunk)).astype(np.float32)
    while True:
        yield from noise
        yield from noise * np.float32(1e-3)
