"""What listening costs: time for each chunk and memory, over a long stream."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from speechgru.audio import Samples
from speechgru.errors import UsageError
from speechgru.streaming import Backend, Recognizer, State

CHUNK_S = 0.02
CHUNKS_A_MINUTE = round(60 / CHUNK_S)
#: The first one warms up, the second and the last one are compared.
FEWEST_MINUTES = 3
#: Chunks from one timed product to the next: seldom enough to leave the chunks' cache alone.
_CHUNKS_A_PRODUCT, _PRODUCT_NUMBERS = 30, 200_000


@dataclass(frozen=True)
class ListeningCost:
    """Cost of a stream in 20 ms chunks, after its first minute.

    `real_time_factor` is of the clock, `cpu_real_time_factor` of the processor: other programs
    lengthen the first. `chunk_us` are quantiles; `bare_us` is the median of the backend's bare
    call alone on the same chunks. `whole_speed` is how many times faster than it was spoken a
    minute is heard that comes at once, as a file does. `last_over_second` compares the two minutes'
    quick chunks (the tenth part), as other programs delay the slow ones, in the time of the same
    product between them: a shared processor may be half as fast an hour later.
    """

    minutes: int
    real_time_factor: float
    cpu_real_time_factor: float
    chunk_us: dict[str, float]
    bare_us: float
    overhead_ratio: float
    whole_speed: float
    last_over_second: float
    peak_mb: float
    growth_mb_per_hour: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "minutes": self.minutes,
            "real_time_factor": self.real_time_factor,
            "cpu_real_time_factor": self.cpu_real_time_factor,
            "overhead_ratio": self.overhead_ratio,
            "chunk_us": self.chunk_us,
            "bare_us": self.bare_us,
            "whole_speed": self.whole_speed,
            "last_over_second": self.last_over_second,
            "peak_mb": self.peak_mb,
            "growth_mb_per_hour": self.growth_mb_per_hour,
        }


@runtime_checkable
class BareStep(Protocol):
    """A backend that can make the call of another library alone."""

    def bare_step(self, samples: Samples, state: State) -> Callable[[], None]:
        """That call, with all that goes in made ready."""
        ...


def measure_listening(
    backend: Backend,
    recognizer: Recognizer,
    minutes: int = FEWEST_MINUTES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ListeningCost:
    """Push `minutes` of sound, quiet and loud by turns, as fast as it goes, and one more at once.

    The backend is timed alone and within the recognizer in the first minute, turn by turn, so that
    what else the machine does weighs on both alike.

    Raises:
        UsageError: fewer than three minutes.
    """
    if minutes < FEWEST_MINUTES:
        raise UsageError(f"minutes {minutes}: at least {FEWEST_MINUTES} are needed, to compare two")
    sound = _sound(round(CHUNK_S * backend.sample_rate), seed)
    pushed, bare = _pairs(backend, recognizer, sound, progress, minutes)
    # All that the measuring needs is there before memory is looked at.
    times_us = np.ones((minutes - 1, CHUNKS_A_MINUTE))
    gc.collect()
    early_mb = held_mb = 0.0
    # Work that is always the same tells how fast the processor is in each of the two minutes: a
    # product of arrays that a core's cache does not hold, as it does not hold a model's weights.
    compared = (0, minutes - 2)
    product_us = np.ones((2, CHUNKS_A_MINUTE // _CHUNKS_A_PRODUCT))
    one, other, product = np.ones((3, _PRODUCT_NUMBERS), np.float32)
    multiply = partial(np.multiply, one, other, product)
    cpu_s = process_time()
    for minute in range(minutes - 1):
        for i in range(CHUNKS_A_MINUTE):
            times_us[minute, i] = _timed_us(recognizer.push, next(sound))
            if minute in compared and i % _CHUNKS_A_PRODUCT == 0:
                place = compared.index(minute), i // _CHUNKS_A_PRODUCT
                product_us[place] = _timed_us(multiply)
        held_mb = held_memory_mb()
        early_mb = early_mb or held_mb
        if progress is not None:
            progress(minute + 2, minutes)
    cpu_s = process_time() - cpu_s - product_us.sum() / 1e6
    whole = np.concatenate([next(sound) for _ in range(CHUNKS_A_MINUTE)])
    whole_us = _timed_us(recognizer.push, whole)
    p50, p95, p99 = np.quantile(times_us, [0.5, 0.95, 0.99]).tolist()
    return ListeningCost(
        minutes=minutes,
        real_time_factor=float(times_us.mean()) / (1e6 * CHUNK_S),
        cpu_real_time_factor=cpu_s / (60 * (minutes - 1)),
        chunk_us={"p50": p50, "p95": p95, "p99": p99},
        bare_us=float(np.median(bare)),
        overhead_ratio=float(np.median(pushed) / np.median(bare)),
        whole_speed=60e6 / whole_us,
        last_over_second=_rise(times_us[0], times_us[-1]) / _rise(*product_us),
        peak_mb=peak_memory_mb(),
        growth_mb_per_hour=(held_mb - early_mb) / max(1, minutes - 2) * 60,
    )


def _rise(earlier_us: NDArray[np.float64], later_us: NDArray[np.float64]) -> float:
    """How much longer the later quick ones take: the times that a tenth is below."""
    return float(np.quantile(later_us, 0.1) / np.quantile(earlier_us, 0.1))


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
    progress: Callable[[int, int], None] | None,
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
        if isinstance(backend, BareStep):
            times_us[1, i] = _timed_us(backend.bare_step(chunk, state))
            _, state = backend(chunk, state)
        else:
            started = perf_counter()
            _, state = backend(chunk, state)
            times_us[1, i] = 1e6 * (perf_counter() - started)
    if progress is not None:
        progress(1, minutes)
    return times_us[0, 100:], times_us[1, 100:]


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
