"""A listening session: blocks of sound through a recognizer, event latencies, and a summary."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from speechgru.audio.samples import Samples
from speechgru.audio.sources import Block
from speechgru.decoding.events import Event
from speechgru.recognition.recognizer import Recognizer

#: The summary covers this many last latencies, so that memory does not grow over days.
_MOST_LATENCIES = 1_000


@dataclass(frozen=True)
class TimedEvent:
    """An event, and the delay from the sample that settled it to its report, in milliseconds."""

    event: Event
    delay_ms: float

    @property
    def latency_ms(self) -> float:
        """From the end of the word to the report."""
        return self.event.latency_ms + self.delay_ms

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.event.as_dict(self.delay_ms)


@dataclass(frozen=True)
class BlockResult:
    """One block of a stream and the events it settled; lost samples are zeros in it."""

    samples: Samples
    events: tuple[TimedEvent, ...]


def listen(recognizer: Recognizer, blocks: Iterable[Block]) -> Iterator[BlockResult]:
    """Push blocks into a recognizer as they arrive, until the stream ends.

    Raises:
        DataError: from the source, or the model's output is not a number.
    """
    for block in blocks:
        events = recognizer.push(block.samples, lost=block.lost)
        samples = np.pad(block.samples, (block.lost, 0)) if block.lost else block.samples
        yield BlockResult(samples, tuple(_timed(event, block.start_clock_s) for event in events))
    last = recognizer.flush()
    yield BlockResult(np.empty(0, np.float32), tuple(_timed(event, None) for event in last))


def _timed(event: Event, start_clock_s: float | None) -> TimedEvent:
    if start_clock_s is None:
        return TimedEvent(event, 0.0)
    return TimedEvent(event, max(0.0, 1000.0 * (monotonic() - start_clock_s - event.t)))


@dataclass
class Summary:
    """Totals of a stream so far."""

    rate: int
    samples: int = 0
    overruns: int = 0
    words: dict[str, int] = field(default_factory=dict)
    _latencies_ms: list[float] = field(default_factory=list)

    def add(self, block: BlockResult, overruns: int = 0) -> None:
        """Add a block and its events; `overruns` counts how often samples have been dropped."""
        self.samples += len(block.samples)
        self.overruns = overruns
        for timed in block.events:
            self.words[timed.event.word] = self.words.get(timed.event.word, 0) + 1
            self._latencies_ms.append(timed.latency_ms)
        del self._latencies_ms[:-_MOST_LATENCIES]

    @property
    def seconds(self) -> float:
        """Length of the stream."""
        return self.samples / self.rate

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(self.words.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "words": self.words,
            "latency_ms": self.latency_ms(),
            "overruns": self.overruns,
        }

    def latency_ms(self) -> dict[str, float] | None:
        """Median and 95th percentile of the latency; None without events."""
        if not self._latencies_ms:
            return None
        p50, p95 = np.percentile(self._latencies_ms, [50, 95])
        return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}
