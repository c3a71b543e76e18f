"""Posteriors to words. Knows nothing of how the posteriors were made, and needs no torch."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Event:
    """A word that was recognized in a stream; all times are seconds since the stream's start.

    `start_s` to `end_s` is where the word lies as far as the posteriors tell, `score` is its
    probability, and `t` when the decision fell: at the end of the step that settled it.
    """

    word: str
    start_s: float
    end_s: float
    score: float
    t: float

    @property
    def latency_ms(self) -> float:
        """From the word's end to the decision."""
        return 1000 * (self.t - self.end_s)

    def as_dict(self, delay_ms: float = 0.0) -> dict[str, Any]:
        """For JSON; `delay_ms` is what passed between the decision and the telling of it."""
        return {
            "t": round(self.t, 3),
            "start": round(self.start_s, 3),
            "end": round(self.end_s, 3),
            "word": self.word,
            "score": round(self.score, 4),
            "latency_ms": round(self.latency_ms + delay_ms, 1),
        }


class Decoder(Protocol):
    """Turns the log-posteriors of a stream into events, in any chunking the same ones."""

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """The next steps, (T, V); gives the events that they settle."""
        ...

    def flush(self) -> list[Event]:
        """The stream is over: gives the events that were still open."""
        ...

    def reset(self) -> None:
        """Forget everything, as at a stream's start."""
        ...


class Tape:
    """A decoder that keeps the log-posteriors which go to another one, or to none."""

    def __init__(self, decoder: Decoder | None = None) -> None:
        self.decoder = decoder
        self._heard: list[NDArray[np.floating]] = []

    @property
    def log_posteriors(self) -> NDArray[np.floating]:
        """All that was heard, (T, V)."""
        return np.concatenate(self._heard) if self._heard else np.zeros((0, 0))

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """Keep the steps, (T, V), and hand them on."""
        self._heard.append(log_posteriors)
        return self.decoder.push(log_posteriors) if self.decoder else []

    def flush(self) -> list[Event]:
        """The stream is over."""
        return self.decoder.flush() if self.decoder else []

    def reset(self) -> None:
        """Forget what was heard."""
        self._heard = []
        if self.decoder:
            self.decoder.reset()


def isolated_word(log_posteriors: NDArray[np.floating], tail_steps: int) -> NDArray[np.floating]:
    """Score the one word of a clip by what its last `tail_steps` steps say.

    The mean of their log-posteriors, renormalised so that exp(scores) sums to 1. A clip with
    fewer steps is scored by all of them.

    Shape:
        (..., T, V) -> (..., V)

    >>> tail = np.log([[0.5, 0.5], [0.2, 0.8]])
    >>> np.exp(isolated_word(tail, tail_steps=1)).round(3).tolist()
    [0.2, 0.8]
    """
    if tail_steps < 1 or log_posteriors.shape[-2] < 1:
        steps = log_posteriors.shape[-2]
        raise ValueError(f"{tail_steps} last steps of {steps}: a word's score needs at least one")
    mean = log_posteriors[..., -tail_steps:, :].mean(axis=-2)
    return mean - np.logaddexp.reduce(mean, axis=-1, keepdims=True)
