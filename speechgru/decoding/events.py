"""Events, the interface of every decoder, and the decoder of isolated words."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Log probabilities of silence below which a clip is not silent, and of a label that it has.
_NOT_SILENT, _PROBABLE = np.log(0.1), np.log(0.5)


@dataclass(frozen=True, slots=True)
class Event:
    """A word recognized in a stream; all times are seconds since the start of the stream.

    Args:
        start_s: where its posterior begins to rise: usually 0.04 to 0.25 s after its first sound.
        end_s: where its posterior was high enough: often before its last sound.
        score: its probability.
        t: when it was decided: the end of the step that settled it.
    """

    word: str
    start_s: float
    end_s: float
    score: float
    t: float

    @property
    def latency_ms(self) -> float:
        """From the end of the word to the decision."""
        return 1000 * (self.t - self.end_s)

    def as_dict(self, delay_ms: float = 0.0) -> dict[str, Any]:
        """For JSON; `delay_ms` is the time from the decision to the report."""
        return {
            "t": round(self.t, 3),
            "start": round(self.start_s, 3),
            "end": round(self.end_s, 3),
            "word": self.word,
            "score": round(self.score, 4),
            "latency_ms": round(self.latency_ms + delay_ms, 1),
        }


class Decoder(Protocol):
    """Turns the log-posteriors of a stream into events, the same ones in any chunking."""

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """Process the next steps, (T, V); returns the events they settle."""
        ...

    def flush(self) -> list[Event]:
        """End the stream: returns the events that were still open."""
        ...

    def reset(self) -> None:
        """Start a new stream."""
        ...


class PosteriorRecorder:
    """Keeps the log-posteriors of a stream; passes them on to a decoder if one is given."""

    def __init__(self, decoder: Decoder | None = None) -> None:
        self.decoder = decoder
        self._blocks: list[NDArray[np.floating]] = []

    @property
    def log_posteriors(self) -> NDArray[np.floating]:
        """All of them so far, (T, V)."""
        return np.concatenate(self._blocks) if self._blocks else np.zeros((0, 0))

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """Keep the next steps, (T, V); returns the other decoder's events."""
        self._blocks.append(log_posteriors)
        return self.decoder.push(log_posteriors) if self.decoder else []

    def flush(self) -> list[Event]:
        """End the stream."""
        return self.decoder.flush() if self.decoder else []

    def reset(self) -> None:
        """Start a new stream: forget the log-posteriors."""
        self._blocks = []
        if self.decoder:
            self.decoder.reset()


def isolated_word(log_posteriors: NDArray[np.floating], tail_steps: int) -> NDArray[np.floating]:
    """Score the one word of a clip from its last `tail_steps` steps: (..., T, V) -> (..., V).

    The mean of their log-posteriors, normalized so that exp(scores) sums to 1. A clip with fewer
    steps is scored by all of them.

    Raises:
        ValueError: there is no step.

    >>> tail = np.log([[0.5, 0.5], [0.2, 0.8]])
    >>> np.exp(isolated_word(tail, tail_steps=1)).round(3).tolist()
    [0.2, 0.8]
    """
    if tail_steps < 1 or log_posteriors.shape[-2] < 1:
        steps = log_posteriors.shape[-2]
        raise ValueError(f"{tail_steps} last steps of {steps}: at least one step is needed")
    mean = log_posteriors[..., -tail_steps:, :].mean(axis=-2)
    return mean - np.logaddexp.reduce(mean, axis=-1, keepdims=True)


def last_word(
    log_posteriors: NDArray[np.floating], tail_steps: int, silence: int
) -> NDArray[np.floating] | None:
    """Score the last word of a clip that ends in silence: (T, V) -> (V,); None if there is none.

    That is, the latest `tail_steps` steps in which silence, the label in this column, is improbable
    and another label is more likely than not.
    """
    for end in range(len(log_posteriors), tail_steps - 1, -1):
        scores = isolated_word(log_posteriors[:end], tail_steps)
        if scores[silence] < _NOT_SILENT and scores.max() > _PROBABLE:
            return scores
    return None
