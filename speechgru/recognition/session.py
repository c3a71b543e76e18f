"""Listening: blocks of sound through a recognizer, and what is worth telling of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from speechgru.audio.samples import Samples
from speechgru.audio.sources import Block
from speechgru.decoding.events import Event
from speechgru.recognition.recognizer import Recognizer

#: Latencies that are kept for the summary: the last ones, so that days need no memory.
_MOST_LATENCIES = 1_000


@dataclass(frozen=True)
class HeardEvent:
    """An event, and what passed between its decision's sample and now, in milliseconds."""

    event: Event
    delay_ms: float

    @property
    def latency_ms(self) -> float:
        """From the word's end to now."""
        return self.event.latency_ms + self.delay_ms

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.event.as_dict(self.delay_ms)


@dataclass(frozen=True)
class Heard:
    """One block of a stream and the events that it settled."""

    samples: Samples
    events: tuple[HeardEvent, ...]


def listen(recognizer: Recognizer, blocks: Iterable[Block]) -> Iterator[Heard]:
    """Push blocks into a recognizer as they come, to the end of the stream.

    Raises:
        DataError: the source's, or the model's answer is not a number.
    """
    for block in blocks:
        events = recognizer.push(block.samples)
        yield Heard(block.samples, tuple(_timed(event, block.start_clock_s) for event in events))
    last = recognizer.flush()
    yield Heard(np.empty(0, np.float32), tuple(_timed(event, None) for event in last))


def _timed(event: Event, start_clock_s: float | None) -> HeardEvent:
    if start_clock_s is None:
        return HeardEvent(event, 0.0)
    return HeardEvent(event, max(0.0, 1000.0 * (monotonic() - start_clock_s - event.t)))


@dataclass
class Summary:
    """What a stream has given so far."""

    rate: int
    samples: int = 0
    overruns: int = 0
    words: dict[str, int] = field(default_factory=dict)
    _latencies_ms: list[float] = field(default_factory=list)

    def add(self, heard: Heard, overruns: int = 0) -> None:
        """Count a block and its events; `overruns` is how often samples were dropped so far."""
        self.samples += len(heard.samples)
        self.overruns = overruns
        for event in heard.events:
            self.words[event.event.word] = self.words.get(event.event.word, 0) + 1
            self._latencies_ms.append(event.latency_ms)
        del self._latencies_ms[:-_MOST_LATENCIES]

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self.samples / self.rate

    @property
    def events(self) -> int:
        """How many."""
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
        """From a word's end to its telling: median and 95th percentile; None without events."""
        if not self._latencies_ms:
            return None
        p50, p95 = np.percentile(self._latencies_ms, [50, 95])
        return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}
