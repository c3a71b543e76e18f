"""What listening costs: time per chunk and memory on a long stream, and start-up time."""

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.analysis.measuring import PeakMemory, memory_bytes, peak_memory_bytes
from speechgru.audio.samples import Samples
from speechgru.common.progress import Progress
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import Recognizer, open_recognizer

CHUNK_S = 0.02
CHUNKS_PER_MINUTE = round(60 / CHUNK_S)
#: The first minute warms up; the second and the last are compared.
MIN_MINUTES = 3
#: A recognizer's first chunks are not counted, as nothing is in the processor's cache yet.
_WARM_UP_CHUNKS = 100
#: Pairs of new processes timed for the start-up.
PAIRS = 7
#: The program that the start-up is compared with: the imports that `listen` cannot avoid.
BARE_IMPORTS = "import numpy, onnxruntime, rich, typer; print()"


@dataclass(frozen=True)
class ListeningCost:
    """Cost of a stream pushed in 20 ms chunks, after its first minute.

    Args:
        real_time_factor: by the clock; other programs make it larger.
        cpu_real_time_factor: by CPU time.
        chunk_us: quantiles of the time per chunk.
        bare_us: median time of the inference library's own call on the same chunks.
        overhead_ratio: time per chunk in the recognizer divided by that of the bare call.
        whole_speed: how many times faster than real time a minute is recognized if pushed at once,
            as from a file.
        last_over_second: time of the last minute divided by that of the second, by the fastest
            tenth of the chunks, as other programs delay the slow ones.
        last_over_fresh: time of this recognizer divided by that of a new one, chunk by chunk in
            alternation; a processor that became slower meanwhile does not change this ratio.
        peak_mb: peak memory of the process.
        growth_mb_per_hour: growth of the highest memory use so far, taken each minute; memory that
            the process returns does not count.
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
    minutes: int = MIN_MINUTES,
    seed: int = 0,
    progress: Progress | None = None,
) -> ListeningCost:
    """Push `minutes` of loud and quiet sound as fast as possible, and then two more.

    The first of these two is pushed at once, the second also through a new recognizer. In the very
    first minute the backend is also timed by itself, in alternation with the recognizer, so that
    other programs slow both down alike.

    Raises:
        UsageError: fewer than three minutes.
    """
    if minutes < MIN_MINUTES:
        raise UsageError(f"minutes {minutes}: must be at least {MIN_MINUTES}, to compare two")
    backend = open_backend()
    recognizer = open_recognizer(backend)
    sound = _sound(round(CHUNK_S * backend.sample_rate), seed)
    pushed_us, bare_us = _time_against_bare(backend, recognizer, sound, progress, minutes)
    # Allocate everything before memory is measured.
    times_us = np.ones((minutes - 1, CHUNKS_PER_MINUTE))
    gc.collect()
    first_mb = held_mb = 0.0
    cpu_s = process_time()
    for minute in range(minutes - 1):
        for i in range(CHUNKS_PER_MINUTE):
            times_us[minute, i] = _time_us(recognizer.push, next(sound))
        held_mb = max(held_mb, memory_bytes() / 1e6)
        first_mb = first_mb or held_mb
        if progress is not None:
            progress(minute + 2, minutes)
    cpu_s = process_time() - cpu_s
    whole_minute = np.concatenate([next(sound) for _ in range(CHUNKS_PER_MINUTE)])
    whole_us = _time_us(recognizer.push, whole_minute)
    peak_mb = peak_memory_bytes() / 1e6  # before a second recognizer uses memory
    last_over_fresh = _time_ratio(recognizer, open_recognizer(open_backend()), sound)
    p50, p95, p99 = np.quantile(times_us, [0.5, 0.95, 0.99]).tolist()
    return ListeningCost(
        minutes=minutes,
        real_time_factor=float(times_us.mean()) / (1e6 * CHUNK_S),
        cpu_real_time_factor=cpu_s / (60 * (minutes - 1)),
        chunk_us={"p50": p50, "p95": p95, "p99": p99},
        bare_us=float(np.median(bare_us)),
        overhead_ratio=float(np.median(pushed_us) / np.median(bare_us)),
        whole_speed=60e6 / whole_us,
        last_over_second=_fastest_tenth(times_us[-1]) / _fastest_tenth(times_us[0]),
        last_over_fresh=last_over_fresh,
        peak_mb=peak_mb,
        growth_mb_per_hour=(held_mb - first_mb) / max(1, minutes - 2) * 60,
    )


def _time_against_bare(
    backend: Backend,
    recognizer: Recognizer,
    sound: Iterator[Samples],
    progress: Progress | None,
    minutes: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times of the recognizer and of the bare call on the same chunks, without the first few.

    A backend without a bare call of its own is timed itself.
    """
    times_us = np.ones((2, CHUNKS_PER_MINUTE))
    state = backend.initial_state()
    for i in range(CHUNKS_PER_MINUTE):
        chunk = next(sound)
        times_us[0, i] = _time_us(recognizer.push, chunk)
        bare_step = backend.bare_step(chunk, state)
        if bare_step is not None:
            times_us[1, i] = _time_us(bare_step)
        start = perf_counter()
        _, state = backend(chunk, state)
        if bare_step is None:
            times_us[1, i] = 1e6 * (perf_counter() - start)
    if progress is not None:
        progress(1, minutes)
    return times_us[0, _WARM_UP_CHUNKS:], times_us[1, _WARM_UP_CHUNKS:]


def _time_ratio(old: Recognizer, fresh: Recognizer, sound: Iterator[Samples]) -> float:
    """Time of `old` divided by that of `fresh` for the same minute, chunk by chunk."""
    times_us = np.ones((2, CHUNKS_PER_MINUTE))
    for i in range(CHUNKS_PER_MINUTE):
        chunk = next(sound)
        # The second to run finds the chunk in the cache, so the order alternates.
        for which in (0, 1) if i % 2 else (1, 0):
            times_us[which, i] = _time_us((old, fresh)[which].push, chunk)
    old_us, fresh_us = np.median(times_us[:, _WARM_UP_CHUNKS:], axis=1)
    return float(old_us / fresh_us)


def _fastest_tenth(chunks_us: NDArray[np.float64]) -> float:
    """The time within which the fastest tenth of the chunks are done."""
    return float(np.quantile(chunks_us, 0.1))


def _time_us(call: Callable[..., object], *chunk: Samples) -> float:
    start = perf_counter()
    call(*chunk)
    return 1e6 * (perf_counter() - start)


def _sound(chunk: int, seed: int) -> Iterator[Samples]:
    """Endless chunks: a second of noise, then a second of near silence."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (50, chunk)).astype(np.float32)
    while True:
        yield from noise
        yield from noise * np.float32(1e-3)


@dataclass(frozen=True)
class StartupCost:
    """Medians over pairs of new processes: `listen --input FILE`, and the imports it cannot avoid.

    Args:
        first_event_s: until `listen` has printed its first event.
        bare_imports_s: until a process has imported onnxruntime, numpy, typer and rich.
        over_bare: median of the ratio within each pair.
        peak_mb: the highest peak memory of a `listen` process.
    """

    pairs: int
    first_event_s: float
    bare_imports_s: float
    over_bare: float
    peak_mb: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_startup(
    model: Path,
    recording: Path,
    pairs: int | None = None,
    progress: Progress | None = None,
) -> StartupCost:
    """Start `listen` on a recording several times and wait for its first event.

    Raises:
        DataError: the model recognizes no event in it.
        SpeechGRUError: `listen` fails; the message has what it printed.
    """
    pairs = pairs or PAIRS
    listen = ["-m", "speechgru", "listen", str(model), "--input", str(recording), "--jsonl"]
    times_s = np.ones((2, pairs))
    peak_mb = 0.0
    for i in range(pairs):
        times_s[0, i], line, memory_mb = _time_first_line(listen)
        if not line:
            raise DataError(f"{recording}: {model} recognizes no event in it")
        peak_mb = max(peak_mb, memory_mb)
        times_s[1, i], _, _ = _time_first_line(["-c", BARE_IMPORTS])
        if progress is not None:
            progress(i + 1, pairs)
    first_event_s, bare_imports_s = np.median(times_s, axis=1).tolist()
    over_bare = float(np.median(times_s[0] / times_s[1]))
    return StartupCost(pairs, first_event_s, bare_imports_s, over_bare, peak_mb)


def _time_first_line(arguments: Sequence[str]) -> tuple[float, bytes, float]:
    """Seconds until a new Python process has printed a line, that line, and its peak memory."""
    start = perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        memory = PeakMemory(process.pid)
        memory.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = perf_counter() - start
        stderr = process.communicate()[1].decode(errors="replace").strip()
    memory.join()
    if process.returncode:
        raise SpeechGRUError(f"listen failed with exit code {process.returncode}: {stderr[-300:]}")
    return seconds, line, memory.bytes / 1e6
