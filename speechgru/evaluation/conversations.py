"""Commands after talk: recall by what comes before them, and events in the talk."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from speechgru.corpora.conversations import ConversationPlan, Talk, make_conversation
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.errors import DataError
from speechgru.evaluation.events import TOLERANCE_S, EventReport
from speechgru.evaluation.metrics import rate_interval, wilson_interval
from speechgru.evaluation.streams import ArraySound, StreamCase, StreamReport
from speechgru.labels import NOT_WORDS, UNKNOWN

#: An `_unknown_` of a truth that lasts at least this long is talk.
LEAST_TALK_S = 2.0
#: After a pause of this length a command counts as one after quiet, not after talk.
QUIET_S = 6.0
#: Bounds of the tables' rows, in seconds.
PAUSES_S = (0.0, 0.3, 1.0, 2.5, QUIET_S)
TALKS_S = (0.0, 30.0, 120.0, math.inf)
#: Pauses from which commands count in the table by the length of talk.
LEAST_PAUSE_S = 1.0


@dataclass(frozen=True)
class Command:
    """A command and what comes before it.

    Args:
        matched: whether it has its event.
        pause_s: time since the last word or talk; infinite for the first.
        talk_s: length of the last stretch of talk; None after quiet.
        place: number of commands since that talk or quiet, from 1.
    """

    matched: bool
    pause_s: float
    talk_s: float | None
    place: int


@dataclass(frozen=True)
class Recall:
    """The share of commands that are matched, with its Wilson interval."""

    matched: int
    n: int

    @classmethod
    def of(cls, commands: Iterable[Command]) -> "Recall":
        """Count commands."""
        found = [command.matched for command in commands]
        return cls(sum(found), len(found))

    @property
    def share(self) -> float | None:
        """None without commands."""
        return self.matched / self.n if self.n else None

    @property
    def ci95(self) -> tuple[float, float]:
        """The interval."""
        return wilson_interval(self.matched, self.n)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"n": self.n, "recall": self.share, "ci95": list(self.ci95)}


@dataclass(frozen=True)
class ConversationReport:
    """The events of a conversation against its truth."""

    stream: StreamReport

    @property
    def events(self) -> EventReport:
        """Matched, wrong and missed commands, and false alarms."""
        return self.stream.events

    @cached_property
    def commands(self) -> list[Command]:
        """Each command with what comes before it, in order."""
        return commands_of(self.stream.case.truth, self.events)

    @property
    def recall(self) -> Recall:
        """Of all commands."""
        return Recall.of(self.commands)

    @property
    def after_quiet(self) -> Recall:
        """Of the commands after quiet, with which those after talk compare."""
        return Recall.of(c for c in self.commands if c.talk_s is None)

    @property
    def after_talk(self) -> Recall:
        """Of the commands after talk and a pause of at least `LEAST_PAUSE_S`."""
        return Recall.of(self._rested)

    @property
    def by_pause(self) -> list[tuple[float, float, Recall]]:
        """Of the first command after talk, by the pause between them: from, to, recall."""
        first = [c for c in self.commands if c.talk_s is not None and c.place == 1]
        return _binned(first, PAUSES_S, lambda c: c.pause_s)

    @property
    def by_talk(self) -> list[tuple[float, float, Recall]]:
        """Of the commands after talk and a pause, by the length of the talk: from, to, recall."""
        return _binned(self._rested, TALKS_S, lambda c: c.talk_s or 0.0)

    @property
    def by_place(self) -> list[tuple[int, Recall]]:
        """Of the first, second, ... command after talk, each after a pause."""
        places = sorted({c.place for c in self._rested})
        return [(n, Recall.of(c for c in self._rested if c.place == n)) for n in places]

    @property
    def _rested(self) -> list[Command]:
        return [c for c in self.commands if c.talk_s is not None and c.pause_s >= LEAST_PAUSE_S]

    @cached_property
    def talk_hours(self) -> float:
        """Hours of talk."""
        return sum(spoken.end - spoken.start for spoken in _talk(self.stream.case.truth)) / 3600

    @cached_property
    def talk_events(self) -> int:
        """False alarms in talk or shortly after its end."""
        spans = [(talk.start, talk.end + TOLERANCE_S) for talk in _talk(self.stream.case.truth)]
        times = [event.t for event in self.events.false_alarms]
        return sum(any(start <= t <= end for start, end in spans) for t in times)

    @property
    def talk_events_per_hour(self) -> float:
        """Of talk; 0 without any."""
        return self.talk_events / self.talk_hours if self.talk_hours else 0.0

    @property
    def talk_events_ci95(self) -> tuple[float, float]:
        """The exact interval of that rate."""
        return rate_interval(self.talk_events, self.talk_hours)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.talk_events_ci95
        return self.stream.as_dict() | {
            "recall": self.recall.share,
            "recall_ci95": list(self.recall.ci95),
            "after_quiet": self.after_quiet.as_dict(),
            "after_talk": self.after_talk.as_dict(),
            "by_pause": [_row(*row) for row in self.by_pause],
            "by_talk": [_row(*row) for row in self.by_talk],
            "by_place": [{"place": n} | recall.as_dict() for n, recall in self.by_place],
            "talk_hours": self.talk_hours,
            "talk_events": self.talk_events,
            "talk_events_per_hour": self.talk_events_per_hour,
            "talk_events_per_hour_ci95": [low, high if math.isfinite(high) else None],
        }


def conversation_case(audio: SplitAudio, talk: Talk, plan: ConversationPlan) -> StreamCase:
    """The seeded conversation of a split, in memory.

    Raises:
        DataError: the split has no clip of a word, or the conversation is too short to hold one.
    """
    stream = make_conversation(audio, talk, plan)
    if not stream.truth.words:
        raise DataError(
            f"a conversation of {plan.minutes:g} minutes holds no command; a longer one is needed"
        )
    return StreamCase(ArraySound(stream.samples, stream.rate), stream.truth, stream.truth.made)


def commands_of(truth: Truth, events: EventReport) -> list[Command]:
    """The commands of a truth in order, each with what comes before it."""
    matched = {id(spoken) for spoken, _ in events.matched}
    commands, last_end, talk_s, place = [], -math.inf, None, 0
    for spoken in truth.words:
        pause_s = spoken.start - last_end
        last_end = max(last_end, spoken.end)
        if pause_s >= QUIET_S:
            talk_s, place = None, 0
        if _is_talk(spoken):
            talk_s, place = spoken.end - spoken.start, 0
        if spoken.word not in NOT_WORDS:
            place += 1
            commands.append(Command(id(spoken) in matched, pause_s, talk_s, place))
    return commands


def _talk(truth: Truth) -> list[SpokenWord]:
    return [spoken for spoken in truth.words if _is_talk(spoken)]


def _is_talk(spoken: SpokenWord) -> bool:
    return spoken.word == UNKNOWN and spoken.end - spoken.start >= LEAST_TALK_S


def _binned(
    commands: list[Command], bounds: tuple[float, ...], key: Callable[[Command], float]
) -> list[tuple[float, float, Recall]]:
    return [
        (low, high, Recall.of(c for c in commands if low <= key(c) < high))
        for low, high in pairwise(bounds)
    ]


def _row(low: float, high: float, recall: Recall) -> dict[str, Any]:
    """JSON has no infinity: the last bin's bound is null."""
    return {"from_s": low, "to_s": high if math.isfinite(high) else None} | recall.as_dict()
