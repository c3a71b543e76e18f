"""Events scored against the truth of a stream: matched, wrong, missed, false alarms."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.decoding.events import Event
from speechgru.evaluation.metrics import rate_interval, wilson_interval
from speechgru.labels import NOT_WORDS, UNKNOWN

#: An event belongs to a word if its decision is at most this far outside of it (Warden, 2018).
TOLERANCE_S = 0.75


@dataclass(frozen=True)
class EventReport:
    """What became of each word and each event.

    A word is matched by an event with its label, or has a wrong event (of another word), or is
    missed. An event that belongs to no word, or to one that already has an event, is a false alarm.

    Args:
        unknown: speech that should not be recognized.
        fired: the unknown words that have a false alarm, with it.
    """

    words: tuple[SpokenWord, ...]
    matched: tuple[tuple[SpokenWord, Event], ...]
    wrong: tuple[tuple[SpokenWord, Event], ...]
    false_alarms: tuple[Event, ...]
    duration_s: float
    unknown: tuple[SpokenWord, ...] = ()
    fired: tuple[tuple[SpokenWord, Event], ...] = ()

    @property
    def n(self) -> int:
        """Number of words that should be recognized."""
        return len(self.words)

    @property
    def missed(self) -> int:
        """Number of words without an event."""
        return self.n - len(self.matched) - len(self.wrong)

    @property
    def recordings(self) -> int | None:
        """Number of different recordings that the words are of; None where that is not known.

        A recording that is heard again says little new, so that intervals of words are too narrow.
        """
        files = {word.file for word in self.words}
        return None if None in files or not files else len(files)

    @property
    def errors(self) -> int:
        """Number of words that are not matched, plus false alarms."""
        return self.n - len(self.matched) + len(self.false_alarms)

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return self.duration_s / 3600

    @property
    def false_alarms_per_hour(self) -> float:
        """False alarms per hour of audio."""
        return len(self.false_alarms) / self.hours if self.hours else 0.0

    @property
    def false_alarms_ci95(self) -> tuple[float, float]:
        """The interval of the false alarms per hour."""
        return rate_interval(len(self.false_alarms), self.hours)

    @property
    def false_reject_rate(self) -> float:
        """The share of words that are not matched; 0 without words."""
        return 1 - len(self.matched) / self.n if self.n else 0.0

    @property
    def false_reject_ci95(self) -> tuple[float, float]:
        """The Wilson interval of the false-reject rate."""
        return wilson_interval(self.n - len(self.matched), self.n)

    @property
    def unknown_fire_rate(self) -> float:
        """The share of unknown words that have a false alarm; 0 without any."""
        return len(self.fired) / len(self.unknown) if self.unknown else 0.0

    @property
    def unknown_fire_ci95(self) -> tuple[float, float]:
        """The Wilson interval of that share."""
        return wilson_interval(len(self.fired), len(self.unknown))

    @cached_property
    def latency_ms(self) -> dict[str, float | None]:
        """From the end of a matched word to its decision, negative if that is earlier: p50 and p95.

        None without matched words.
        """
        if not self.matched:
            return {"p50": None, "p95": None}
        latencies = [1000 * (event.t - spoken.end) for spoken, event in self.matched]
        p50, p95 = np.quantile(latencies, [0.5, 0.95]).tolist()
        return {"p50": p50, "p95": p95}

    def recall_by_minutes(self, bin_minutes: float) -> list[dict[str, float]]:
        """The share of matched words in each stretch of the stream, by the words' ends."""
        matched = {id(spoken) for spoken, _ in self.matched}
        bins, count = [], math.ceil(self.duration_s / 60 / bin_minutes)
        for number in range(count):
            start, stop = bin_minutes * number, bin_minutes * (number + 1)
            # A word may end with the stream.
            last = math.inf if number == count - 1 else stop
            inside = [w for w in self.words if start <= w.end / 60 < last]
            right = sum(id(spoken) in matched for spoken in inside)
            if inside:
                low, high = wilson_interval(right, len(inside))
                row = {"from": start, "to": min(stop, self.duration_s / 60), "n": len(inside)}
                bins.append(row | {"recall": right / len(inside), "low": low, "high": high})
        return bins

    @property
    def bin_minutes(self) -> float:
        """A width for a table: one minute in a short stream, one hour in a day."""
        minutes = self.duration_s / 60
        return next(
            (width for limit, width in ((8, 1), (40, 5), (240, 30)) if minutes <= limit), 60
        )

    @property
    def ends_of_recall(self) -> tuple[dict[str, float], dict[str, float]] | None:
        """The first and the last whole stretch of `recall_by_minutes`; None with fewer than two."""
        width = self.bin_minutes
        rows = self.recall_by_minutes(width)
        whole = [row for row in rows if row["to"] - row["from"] == width]
        return (whole[0], whole[-1]) if len(whole) > 1 else None

    @property
    def recall_lasts(self) -> bool | None:
        """Whether the last stretch's recall is not below the 95 % interval of the first."""
        if self.ends_of_recall is None:
            return None
        first, last = self.ends_of_recall
        return last["recall"] >= first["low"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "words": self.n,
            "recordings": self.recordings,
            "matched": len(self.matched),
            "wrong": len(self.wrong),
            "false_alarms": len(self.false_alarms),
            "missed": self.missed,
            "hours": self.hours,
            "false_alarms_per_hour": self.false_alarms_per_hour,
            "false_alarms_per_hour_ci95": list(self.false_alarms_ci95),
            "false_reject_rate": self.false_reject_rate,
            "false_reject_rate_ci95": list(self.false_reject_ci95),
            "unknown_words": len(self.unknown),
            "unknown_fired": len(self.fired),
            "latency_ms": self.latency_ms,
            "tolerance_s": TOLERANCE_S,
            "recall_by_minutes": self.recall_by_minutes(self.bin_minutes),
            "recall_lasts": self.recall_lasts,
        }


def score_events(
    truth: Truth, events: Sequence[Event], duration_s: float, tolerance_s: float = TOLERANCE_S
) -> EventReport:
    """Assign each event to a word near its decision, at most `tolerance_s` outside the word.

    First to words with its label, then to others that have no event yet; in the order of the
    decisions, each time to the word that ends first, so that no other assignment matches more
    (F. Glover, "Maximum matching in a convex bipartite graph", 1967).

    Source: P. Warden, "Speech Commands: a dataset for limited-vocabulary speech recognition",
    arXiv:1804.03209, section 7.3.
    """
    words = tuple(spoken for spoken in truth.words if spoken.word not in NOT_WORDS)
    unknown = tuple(spoken for spoken in truth.words if spoken.word == UNKNOWN)
    ordered = sorted(events, key=lambda event: event.t)
    words_left = _UnclaimedWords(words, tolerance_s)
    matched, others = _assign(ordered, lambda event: words_left.claim(event, (event.word,)))
    wrong, false_alarms = _assign(others, words_left.claim)
    unknown_left = _UnclaimedWords(unknown, tolerance_s)
    fired, _ = _assign(false_alarms, unknown_left.claim)
    return EventReport(
        words,
        tuple(matched),
        tuple(wrong),
        tuple(false_alarms),
        duration_s,
        unknown,
        tuple(fired),
    )


Pairs = list[tuple[SpokenWord, Event]]


def _assign(
    events: Sequence[Event], claim: Callable[[Event], SpokenWord | None]
) -> tuple[Pairs, list[Event]]:
    """Pairs of words and the events that claim them, and the events that claim none."""
    pairs, unassigned = [], []
    for event in events:
        if spoken := claim(event):
            pairs.append((spoken, event))
        else:
            unassigned.append(event)
    return pairs, unassigned


class _UnclaimedWords:
    """Words that no event has claimed yet."""

    def __init__(self, words: Sequence[SpokenWord], tolerance_s: float) -> None:
        self.words = sorted(words, key=lambda spoken: spoken.end)
        self.ends = [spoken.end for spoken in self.words]
        self.tolerance_s = tolerance_s
        self.longest_s = max((spoken.end - spoken.start for spoken in words), default=0.0)
        self.unclaimed = [True] * len(words)

    def claim(self, event: Event, labels: Container[str] | None = None) -> SpokenWord | None:
        """The unclaimed word near an event, of these labels if any, that ends first."""
        reach_s = self.tolerance_s + 1e-6  # for rounding
        # No word whose end is outside of this range can be near.
        first = bisect_left(self.ends, event.t - reach_s)
        for i in range(first, bisect_right(self.ends, event.t + reach_s + self.longest_s)):
            spoken = self.words[i]
            near = spoken.start - self.tolerance_s <= event.t <= spoken.end + self.tolerance_s
            if self.unclaimed[i] and near and (labels is None or spoken.word in labels):
                self.unclaimed[i] = False
                return spoken
        return None
