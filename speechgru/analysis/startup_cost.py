"""How soon `speechgru listen` gives its first event, and in how much memory."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from speechgru.common.progress import Progress
from speechgru.errors import DataError, SpeechGRUError

_LISTEN = """
import atexit, sys
def tell():
    from speechgru.analysis.listening_cost import peak_memory_mb
    print(peak_memory_mb(), file=sys.stderr)
atexit.register(tell)
from speechgru.cli import entry_point
entry_point()
"""
#: What any program of this kind has to load.
_BARE = "import onnxruntime, numpy, typer, rich; print()"
#: Starts of each, by turns, so that what else the machine does weighs on both alike.
PAIRS = 7


@dataclass(frozen=True)
class StartingCost:
    """Medians over pairs of new processes: `listen --input FILE`, and the bare imports.

    `over_bare` is the median of the pairs' own ratios, `peak_mb` the most memory of any `listen`.
    """

    pairs: int
    first_event_s: float
    bare_imports_s: float
    over_bare: float
    peak_mb: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_start(
    model: Path,
    recording: Path,
    pairs: int | None = None,
    progress: Progress | None = None,
) -> StartingCost:
    """Start to listen to a recording, time and again, until its first event is there.

    Raises:
        DataError: the model hears no event in it.
        SpeechGRUError: `listen` fails; with what it said.
    """
    pairs = pairs or PAIRS
    listen = [_LISTEN, "listen", str(model), "--input", str(recording), "--jsonl"]
    times_s = np.ones((2, pairs))
    peak_mb = 0.0
    for i in range(pairs):
        times_s[0, i], line, told = _first_line(listen)
        if not line:
            raise DataError(f"{recording}: {model} hears no event in it")
        peak_mb = max(peak_mb, float(told.split()[-1]))
        times_s[1, i], _, _ = _first_line([_BARE])
        if progress is not None:
            progress(i + 1, pairs)
    first_event_s, bare_imports_s = np.median(times_s, axis=1).tolist()
    over_bare = float(np.median(times_s[0] / times_s[1]))
    return StartingCost(pairs, first_event_s, bare_imports_s, over_bare, peak_mb)


def _first_line(code: list[str]) -> tuple[float, bytes, str]:
    """Seconds until a new Python has printed its first line, that line, and what it told."""
    started = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", *code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = perf_counter() - started
        told = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise SpeechGRUError(f"listen ended with {process.returncode}: {told[-300:]}")
    return seconds, line, told
