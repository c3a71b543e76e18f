"""How time and memory are measured."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_SAMPLE_EVERY_S = 0.005


def clock_for(device_type: str) -> Callable[[], float]:
    """CPU time on a CPU, which other programs share; wall-clock time on other devices."""
    return time.process_time if device_type == "cpu" else time.perf_counter


def fastest_s(run: Callable[[], None], rounds: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of several runs, as other programs can only slow a run down."""
    seconds = []
    for _ in range(rounds):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


def memory_bytes() -> int:
    """The resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def peak_memory_bytes(pid: int | None = None) -> int:
    """The most resident memory that a process (by default this one) has held so far.

    On macOS, which does not report it, this is the memory held now.

    Raises:
        psutil.NoSuchProcess: the process has ended.
    """
    memory = psutil.Process(pid).memory_info()
    status = Path(f"/proc/{pid or os.getpid()}/status")
    if status.exists() and "VmHWM:" in (text := status.read_text()):  # psutil lacks it on Linux
        return 1024 * int(text.split("VmHWM:")[1].split()[0])
    return int(getattr(memory, "peak_wset", memory.rss))  # peak_wset: Windows


class PeakMemory(threading.Thread):
    """Follows the peak memory of another process, in `bytes`, until that process ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.bytes = pid, 0

    def run(self) -> None:
        """Sample the peak; `start` calls this."""
        while True:
            try:
                self.bytes = max(self.bytes, peak_memory_bytes(self.pid))
            except (psutil.Error, OSError):  # it has ended
                return
            time.sleep(_SAMPLE_EVERY_S)
