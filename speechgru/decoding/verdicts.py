"""What a detector made of each stretch in which a word was an event, or nearly one."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

#: The check that stopped a word, in order; "event" if it passed all of them.
Gate = Literal["threshold", "duration", "held", "refractory", "silence", "speech", "event"]
_ORDER: dict[Gate, int] = {gate: order for order, gate in enumerate(get_args(Gate))}

#: So many verdicts are kept.
MOST_VERDICTS = 256


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stretch of the stream in which a word was an event or a near miss.

    Args:
        t: when the smoothed posterior was highest.
        score: its highest value.
        gate: what stopped the word, or "event".
    """

    word: str
    start_s: float
    end_s: float
    t: float
    score: float
    threshold: float
    gate: Gate


@dataclass(slots=True)
class _OpenVerdict:
    """A verdict in progress: the word by its index, and mutable, as every step changes it."""

    word: int
    start_s: float
    end_s: float
    t: float
    score: float
    gate: Gate


class VerdictLog:
    """The last verdicts of a stream, and the one in progress.

    Args:
        words: the detector's words.
        step_s: seconds from one step to the next.
    """

    def __init__(self, words: Sequence[str], step_s: float) -> None:
        self.words, self.step_s = words, step_s
        self._open: _OpenVerdict | None = None
        self._closed: deque[Verdict] = deque(maxlen=MOST_VERDICTS)

    @property
    def is_open(self) -> bool:
        """Whether a verdict is in progress."""
        return self._open is not None

    def note(
        self,
        word: int,
        step: int,
        onset: int,
        score: float,
        gate: Gate,
        thresholds: Sequence[float],
    ) -> None:
        """Extend the open verdict, or open a new one."""
        end_s = self.step_s * (step + 1)
        verdict = self._open
        if verdict is None or verdict.word != word:
            self.close(thresholds)
            start_s = min(self.step_s * onset, self.step_s * step)
            self._open = _OpenVerdict(word, start_s, end_s, end_s, score, gate)
            return
        verdict.end_s = end_s
        if _ORDER[gate] > _ORDER[verdict.gate]:
            verdict.gate = gate
        if score > verdict.score:
            verdict.t, verdict.score = end_s, score

    def close(self, thresholds: Sequence[float]) -> None:
        """End the verdict in progress, if there is one."""
        if self._open is not None:
            self._closed.append(self._verdict(self._open, thresholds))
            self._open = None

    def closed(self) -> tuple[Verdict, ...]:
        """The ended ones, in order."""
        return tuple(self._closed)

    def all(self, thresholds: Sequence[float]) -> tuple[Verdict, ...]:
        """The ended ones and the one in progress, in order."""
        in_progress = [self._verdict(self._open, thresholds)] if self._open else []
        return (*self._closed, *in_progress)

    def _verdict(self, verdict: _OpenVerdict, thresholds: Sequence[float]) -> Verdict:
        return Verdict(
            self.words[verdict.word],
            verdict.start_s,
            verdict.end_s,
            verdict.t,
            verdict.score,
            thresholds[verdict.word],
            verdict.gate,
        )
