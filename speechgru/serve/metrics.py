"""Metrics of a server in the text format of Prometheus."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

import numpy as np

#: Upper bounds of the latency histogram: seconds from a chunk's arrival to its answer.
BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 1.0)


class Metrics:
    """Counters of a server."""

    def __init__(self) -> None:
        self._started_s = monotonic()
        #: By protocol; by model and word; by reason.
        self.sessions: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        self.closed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.sound_s = self.lost_s = 0.0
        self._chunks = np.zeros(len(BUCKETS_S) + 1, np.int64)
        self._chunks_s = 0.0

    def observe(self, waits_s: Sequence[float], steps: int = 1) -> None:
        """Add the seconds from each chunk's arrival to its answer; each chunk has `steps` steps."""
        places = np.searchsorted(BUCKETS_S, waits_s)
        self._chunks += steps * np.bincount(places, minlength=len(self._chunks))
        self._chunks_s += steps * sum(waits_s)

    def text(self) -> str:
        """All metrics in the text format of Prometheus, version 0.0.4."""
        lines = [
            *_metric("sessions", "gauge", "Sessions now.", _by("door", self.sessions)),
            *_metric("sessions_total", "counter", "Sessions so far.", _by("door", self.opened)),
            *_metric(
                "events_total",
                "counter",
                "Words recognized.",
                [
                    (f'model="{_escaped(model)}",word="{_escaped(word)}"', count)
                    for (model, word), count in sorted(self.events.items())
                ],
            ),
            *_metric(
                "closed_total",
                "counter",
                "Sessions that ended early: by the server, or lost.",
                _by("reason", self.closed),
            ),
            *_metric("refused_total", "counter", "Requests refused.", _by("reason", self.refused)),
            *_metric("sound_seconds_total", "counter", "Sound received.", [("", self.sound_s)]),
            *_metric("lost_seconds_total", "counter", "Sound reported lost.", [("", self.lost_s)]),
            *_histogram(self._chunks.tolist(), self._chunks_s),
            *_metric(
                "uptime_seconds", "gauge", "Since start.", [("", monotonic() - self._started_s)]
            ),
            *_metric(
                "cpu_seconds_total", "counter", "Processor time.", [("", sum(os.times()[:2]))]
            ),
        ]
        return "\n".join(lines) + "\n"


def _by(label: str, counts: Mapping[str, int]) -> list[tuple[str, float]]:
    return [(f'{label}="{_escaped(key)}"', count) for key, count in sorted(counts.items())]


def _metric(
    name: str, kind: str, help_text: str, values: Iterable[tuple[str, float]]
) -> Iterable[str]:
    yield f"# HELP speechgru_{name} {help_text}"
    yield f"# TYPE speechgru_{name} {kind}"
    for labels, value in values:
        yield f"speechgru_{name}{{{labels}}} {value}" if labels else f"speechgru_{name} {value}"


def _histogram(counts: Sequence[int], total_s: float) -> Iterable[str]:
    name = "speechgru_chunk_seconds"
    yield f"# HELP {name} From a chunk's arrival to its answer."
    yield f"# TYPE {name} histogram"
    so_far = 0
    for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
        so_far += count
        yield f'{name}_bucket{{le="{bound}"}} {so_far}'
    yield f"{name}_sum {total_s}"
    yield f"{name}_count {so_far}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
