"""The detector: a stream's posteriors to events, and the reasons where there is none."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from speechgru.decoding import Event
from speechgru.errors import UsageError
from speechgru.labels import Vocabulary
from speechgru.settings import Settings

#: What decides, in this order: a word that passed them all is an event.
Gate = Literal["threshold", "duration", "held", "refractory", "event"]
_ORDER: dict[Gate, int] = {"threshold": 0, "duration": 1, "held": 2, "refractory": 3, "event": 4}

#: From this share of its threshold on, a word is nearly recognized.
NEAR = 0.5
#: A word begins where its posterior rises over this.
ONSET = 0.1
#: Verdicts that are kept for explanations.
MOST_VERDICTS = 256


class DetectorConfig(Settings):
    """When a word is an event; a model's file may hold its own under `decoder`."""

    #: The posteriors' mean over this long decides (Chen, Parada and Heigold, 2014).
    smoothing_s: float = Field(0.2, ge=0.0, le=2.0)
    #: Smoothed posterior that a word needs, and words that need another one.
    threshold: float = Field(0.5, gt=0.0, le=1.0)
    thresholds: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(default_factory=dict)
    #: For how long it must stay there.
    min_duration_s: float = Field(0.1, ge=0.0, le=2.0)
    #: No event follows another one sooner.
    refractory_s: float = Field(0.5, ge=0.0, le=10.0)
    #: A word can fire again once it has fallen below this share of its threshold: a recurrent
    #: network may go on answering the last word for as long as nothing else is said.
    release: float = Field(0.8, gt=0.0, le=1.0)

    def needed(self, word: str) -> float:
        """The threshold of a word."""
        return self.thresholds.get(word, self.threshold)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stretch in which one word was at least nearly recognized, and how far it came.

    `gate` held it, or is "event"; `score` is the highest smoothed posterior, reached at `t`.
    """

    word: str
    start_s: float
    end_s: float
    t: float
    score: float
    threshold: float
    gate: Gate


@dataclass(slots=True)
class _Stretch:
    """A verdict that goes on: by index, and changed in place, as it is at every step."""

    word: int
    start_s: float
    end_s: float
    t: float
    score: float
    gate: Gate


class Detector:
    """Fires an event when a word's smoothed posterior stays over its threshold.

    Silence, unknown and blank never fire. The result is the same in any chunking.

    Args:
        labels: the V labels, in the order of the log-posteriors.
        step_s: seconds from one step to the next.

    Raises:
        UsageError: a threshold is for a word that the labels do not have, or out of range.
    """

    def __init__(
        self, labels: Sequence[str], step_s: float, config: DetectorConfig | None = None
    ) -> None:
        self.config = config or DetectorConfig()
        self.labels = tuple(labels)
        self.words = Vocabulary(self.labels).words
        self.step_s = step_s
        self._ids = np.array([self.labels.index(word) for word in self.words], np.int64)
        for word, threshold in self.config.thresholds.items():
            if word not in self.words or not 0 < threshold <= 1:
                raise UsageError(
                    f"threshold {word}={threshold:g}: a word of the model ({', '.join(self.words)})"
                    " and a number above 0 and up to 1 are needed"
                )
        self._needed = np.array([self.config.needed(word) for word in self.words])
        self._window = max(1, round(self.config.smoothing_s / step_s))
        self._duration = max(1, round(self.config.min_duration_s / step_s))
        self._refractory = round(self.config.refractory_s / step_s)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        words = len(self.words)
        self._step = 0
        self._past = np.zeros((self._window - 1, words))
        #: Where each word's posterior last was below ONSET, below its threshold (raw, smoothed).
        self._low = np.full((3, words), -1, np.int64)
        self._held: int | None = None
        self._blocked_until = 0
        self._open: _Stretch | None = None
        self._verdicts: deque[Verdict] = deque(maxlen=MOST_VERDICTS)

    @property
    def time_s(self) -> float:
        """Seconds of the stream that have been decided."""
        return self._step * self.step_s

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """The next steps, (T, V); gives the events that they settle."""
        if not len(log_posteriors) or not self.words:
            self._step += len(log_posteriors)
            return []
        posteriors = np.exp(log_posteriors[:, self._ids].astype(np.float64))  # (T, W)
        smoothed = self._smooth(posteriors)
        onset, reached, sustained = self._rises(posteriors, smoothed)
        top = smoothed.argmax(axis=1)
        score = smoothed.max(axis=1)
        near = score >= NEAR * self._needed[top]
        events = []
        for i, (word, is_near) in enumerate(zip(top.tolist(), near.tolist(), strict=True)):
            held = self._held
            if held is not None and smoothed[i, held] < self.config.release * self._needed[held]:
                self._held = None
            if not is_near:
                self._close()
                continue
            step = self._step + i
            gate = self._gate(word, step, step - int(sustained[i, word]))
            self._note(word, step, int(onset[i, word]) + 1, float(score[i]), gate)
            if gate == "event":
                self._held, self._blocked_until = word, step + self._refractory
                events.append(
                    Event(
                        self.words[word],
                        start_s=self.step_s * (int(onset[i, word]) + 1),
                        end_s=self.step_s * min(step + 1, int(reached[i, word]) + 2),
                        score=float(score[i]),
                        t=self.step_s * (step + 1),
                    )
                )
        self._step += len(posteriors)
        return events

    def flush(self) -> list[Event]:
        """The stream is over; nothing is open, as every step is decided at once."""
        self._close()
        return []

    def explain(self, t_s: float, within_s: float = 0.5) -> list[Verdict]:
        """What was at least nearly recognized around a moment of the last minutes, and its gate."""
        known = [*self._verdicts, *([self._verdict(self._open)] if self._open else [])]
        return [v for v in known if v.start_s <= t_s + within_s and v.end_s >= t_s - within_s]

    def near_misses(self, since_s: float = 0.0) -> list[Verdict]:
        """The closed stretches that ended after `since_s` without an event."""
        return [v for v in self._verdicts if v.end_s > since_s and v.gate != "event"]

    def _smooth(self, posteriors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over the window; before the stream's start posteriors count as 0."""
        stretch = np.concatenate([self._past, posteriors])
        self._past = stretch[len(posteriors) :]
        # Added up in one order, so that a chunk has to the last bit what the whole has.
        total = np.zeros_like(posteriors)
        for shift in range(self._window):
            total += stretch[shift : shift + len(posteriors)]
        return total / self._window

    def _rises(
        self, posteriors: NDArray[np.float64], smoothed: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """For each step and word the last step below ONSET and the thresholds: (3, T, W)."""
        low = np.stack([posteriors < ONSET, posteriors < self._needed, smoothed < self._needed])
        steps = self._step + np.arange(len(posteriors))
        last = np.where(low, steps[:, None], self._low[:, None])
        last = np.maximum.accumulate(last, axis=1)
        self._low = last[:, -1]
        return last

    def _gate(self, word: int, step: int, sustained_steps: int) -> Gate:
        if sustained_steps < 1:
            return "threshold"
        if sustained_steps < self._duration:
            return "duration"
        if self._held == word:
            return "held"
        return "refractory" if step < self._blocked_until else "event"

    def _note(self, word: int, step: int, onset: int, score: float, gate: Gate) -> None:
        """Open a verdict, or carry the open one on."""
        end_s = self.step_s * (step + 1)
        run = self._open
        if run is None or run.word != word:
            self._close()
            start_s = min(self.step_s * onset, self.step_s * step)
            self._open = _Stretch(word, start_s, end_s, end_s, score, gate)
            return
        run.end_s = end_s
        if _ORDER[gate] > _ORDER[run.gate]:
            run.gate = gate
        if score > run.score:
            run.t, run.score = end_s, score

    def _verdict(self, run: _Stretch) -> Verdict:
        word, threshold = self.words[run.word], float(self._needed[run.word])
        return Verdict(word, run.start_s, run.end_s, run.t, run.score, threshold, run.gate)

    def _close(self) -> None:
        if self._open is not None:
            self._verdicts.append(self._verdict(self._open))
            self._open = None
