"""Ambient sound, in which nothing should be recognized, and the events in it by word."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechgru.audio.levels import SILENT_DB, peak_db
from speechgru.audio.samples import Samples
from speechgru.common.progress import Progress
from speechgru.corpora.fingerprint import recordings_fingerprint
from speechgru.corpora.listing import Skipped, list_recordings, summarize_skipped
from speechgru.decoding.events import Event
from speechgru.decoding.factory import DecoderConfig
from speechgru.decoding.grammar import Grammar
from speechgru.errors import DataError
from speechgru.evaluation.metrics import rate_interval
from speechgru.evaluation.streams import FileSound, StreamOutput, recognize_stream
from speechgru.labels import Vocabulary
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import StatePolicy

#: With no event in H hours, the rate is below this / H per hour at 95 %: the "rule of three" (J. A.
#: Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 1983).
RULE_OF_THREE = 3.0


@dataclass(frozen=True)
class AmbientSound:
    """Recordings one after another, as one stream at `rate`."""

    root: Path
    paths: tuple[Path, ...]
    rate: int
    #: What lies among them and is not used.
    skipped: tuple[Skipped, ...] = ()
    channel: int | None = None
    #: The largest sample of each recording that has been read, in decibels.
    peaks_db: dict[Path, float] = field(default_factory=dict, compare=False)

    @property
    def silent(self) -> tuple[Path, ...]:
        """The recordings that have been read and in which there is no sound."""
        return tuple(path for path, level_db in self.peaks_db.items() if level_db < SILENT_DB)

    @cached_property
    def duration_s(self) -> float:
        """Seconds, from the recordings' headers."""
        return sum(FileSound(path, self.rate).duration_s for path in self.paths)

    def __iter__(self) -> Iterator[Samples]:
        """From the start; raises DataError as `audio.blocks`, and at the end if all is silent."""
        for path in self.paths:
            level_db = peak_db(np.zeros(0))
            for samples in FileSound(path, self.rate, self.channel):
                level_db = max(level_db, peak_db(samples))
                yield samples
            self.peaks_db[path] = level_db
        if len(self.silent) == len(self.paths):
            raise DataError(f"{self.root}: is silent, which shows nothing about false alarms")

    @cached_property
    def description(self) -> dict[str, Any]:
        """What identifies it, for JSON; of its path only the name."""
        return {
            "name": self.root.name,
            "recordings": len(self.paths),
            "fingerprint": recordings_fingerprint(self.root, self.paths),
        }


def open_ambient(path: Path, rate: int, channel: int | None = None) -> AmbientSound:
    """A recording, or all recordings in a folder and its subfolders; one channel, or their average.

    Raises:
        DataError: there is no recording, or a header cannot be read.
    """
    root = Path(path).expanduser().absolute()
    paths, skipped = list_recordings(root) if root.is_dir() else ([root], [])
    if not paths:
        reasons = "".join(f"; {line}" for line in summarize_skipped(skipped)[:3])
        raise DataError(f"{path}: holds no recording; ambient audio is needed{reasons}")
    sound = AmbientSound(root, tuple(paths), rate, tuple(skipped), channel)
    if not sound.duration_s > 0:
        raise DataError(f"{path}: 0 samples; ambient audio is needed")
    return sound


@dataclass(frozen=True)
class AmbientReport:
    """The events in so many hours of sound, all of which are false alarms."""

    events: tuple[Event, ...]
    hours: float
    words: tuple[str, ...]

    @property
    def per_hour(self) -> float:
        """Events per hour."""
        return len(self.events) / self.hours

    @property
    def ci95(self) -> tuple[float, float]:
        """The exact interval of the events per hour."""
        return rate_interval(len(self.events), self.hours)

    @cached_property
    def by_word(self) -> dict[str, dict[str, Any]]:
        """Events, events per hour and their interval for each word, the most frequent first."""
        counts = Counter(dict.fromkeys(self.words, 0))
        counts.update(event.word for event in self.events)
        return {
            word: {
                "events": count,
                "per_hour": count / self.hours,
                "ci95": list(rate_interval(count, self.hours)),
            }
            for word, count in counts.most_common()
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "events": len(self.events),
            "hours": self.hours,
            "per_hour": self.per_hour,
            "per_hour_ci95": list(self.ci95),
            "by_word": self.by_word,
        }


def recognize_ambient(
    backend: Backend,
    sound: AmbientSound,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
    keep_log_posteriors: bool = False,
    grammar: Grammar | None = None,
) -> tuple[StreamOutput, AmbientReport]:
    """Run a recognizer on ambient sound and report its events.

    Raises:
        DataError: as `recognize_stream`; all of the sound is silent.
        UsageError: as `recognize_stream`.
    """
    output = recognize_stream(
        backend, sound, config, policy, progress, keep_log_posteriors, grammar
    )
    return output, report_ambient(output, output.events)


def report_ambient(output: StreamOutput, events: Sequence[Event]) -> AmbientReport:
    """A report of the events that a decoder found in ambient sound."""
    words = Vocabulary(output.model.labels).words
    return AmbientReport(tuple(events), output.duration_s / 3600, words)


def too_short(hours: float, per_hour: float) -> str | None:
    """A sentence that says why so many hours cannot show so low a rate; None if they can."""
    if hours * per_hour >= RULE_OF_THREE:
        return None
    bound, alarms = RULE_OF_THREE / hours, "false alarm" if per_hour == 1 else "false alarms"
    return (
        f"{hours:.2g} hours of ambient audio are too short to show {per_hour:g} {alarms} per "
        f"hour: even with none in them the rate is only known to be below {_plain(bound)} (95 %, "
        f"one-sided); {_plain(RULE_OF_THREE / per_hour)} hours are needed"
    )


def _plain(number: float) -> str:
    return f"{number:.{max(0, 1 - math.floor(math.log10(number)))}f}"
