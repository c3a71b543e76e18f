"""A stream of an engine: its waiting samples, its decoder, and the answers it gives."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.gaps import GapBridge
from speechgru.audio.samples import Samples
from speechgru.decoding.detector import Detector, Verdict
from speechgru.decoding.events import Event
from speechgru.decoding.factory import DecoderConfig, make_decoder
from speechgru.errors import DataError
from speechgru.recognition.state_policy import StateResets
from speechgru.serve.models import ServedModel

#: Steps between two checks for near misses.
NEAR_MISS_STEPS = 10

_Timed = TypeVar("_Timed", Event, Verdict)

_NO_SAMPLES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Extras:
    """What a stream reports in addition to events: near misses, posteriors of every nth step."""

    near_misses: bool = False
    posterior_steps: int = 0


@dataclass(slots=True)
class Answer:
    """What a stream reports after a step.

    `delay_s` is the time since the samples arrived. `ended` marks the last answer; an `error` ends
    the stream too. `room`: the client may send more samples.
    """

    t: float
    events: list[Event] = field(default_factory=list)
    near_misses: list[Verdict] = field(default_factory=list)
    posteriors: NDArray[np.float32] | None = None
    delay_s: float = 0.0
    ended: bool = False
    room: bool = False
    error: str | None = None


OnAnswer = Callable[[Answer], None]


@dataclass(frozen=True)
class _Change:
    """A change that waits between samples and is made once those before it are processed."""

    do: Callable[[], Any]


class Stream:
    """A stream of samples at the model's rate, pushed by one thread and processed by the engine's.

    Args:
        row: the stream's row in the engine's `Rows`.
        on_answer: called with each answer, by way of the engine's `dispatch`.
        wake: called when something is waiting for the engine.
    """

    def __init__(
        self,
        model: ServedModel,
        row: int,
        on_answer: OnAnswer,
        wake: Callable[["Stream"], None],
        extras: Extras | None = None,
        config: DecoderConfig | None = None,
    ) -> None:
        self.model, self.row, self.on_answer = model, row, on_answer
        self.extras = extras or Extras()
        self.decoder = make_decoder(model.backend.info, config or model.config)
        self.resets = self._new_resets()
        self._wake = wake
        self._inbox: deque[Samples | _Change] = deque()
        self._rest = _NO_SAMPLES
        self._bridge = GapBridge(model.backend.sample_rate)
        #: Samples pushed, and samples processed.
        self.pushed = self.taken = 0
        self.arrived_s = 0.0
        #: Steps processed since the start or the last reset.
        self.steps = 0
        #: Where the decoder started, and up to where near misses were reported.
        self._decoder_start_s = self._near_s = 0.0
        #: If somebody waits for room: how many samples may be waiting.
        self.wanted_room: int | None = None
        self.queued = self.reset_wanted = self.ended = self.closed = False

    @property
    def waiting_samples(self) -> int:
        """Samples pushed and not yet processed."""
        return self.pushed - self.taken

    def push(self, samples: Samples, lost: int = 0) -> None:
        """Add the next samples, (S,) finite float32 in [-1, 1], after `lost` that never came."""
        samples = self._bridge.push(samples, lost)
        self.pushed += len(samples)
        self.arrived_s = monotonic()
        self._inbox.append(samples)
        self._wake(self)

    def reset(self) -> None:
        """Start a new stream, with new time, state and decoder, after the waiting samples."""
        self._bridge = GapBridge(self.model.backend.sample_rate)
        self._change(self._reset)

    def configure(self, config: DecoderConfig) -> None:
        """Use other decoder settings after the waiting samples.

        Raises:
            UsageError: a threshold is for a word that the model does not have.
        """
        decoder = make_decoder(self.model.backend.info, config)
        self._change(lambda: self._exchange(decoder))

    def finish(self) -> None:
        """End the stream after the waiting samples; the last answer has `ended` set."""
        self._change(self._end)

    def take(self, step_samples: int) -> Samples | None:
        """Make the changes that are due; returns the next step, (step_samples,), if any."""
        while len(self._rest) < step_samples:
            if not self._inbox:
                return None
            item = self._inbox.popleft()
            if isinstance(item, _Change):
                item.do()
                if self.ended or self.reset_wanted:
                    return None
            else:
                self._rest = np.concatenate([self._rest, item]) if len(self._rest) else item
        chunk, self._rest = self._rest[:step_samples], self._rest[step_samples:]
        self.taken += step_samples
        return chunk

    @property
    def has_more(self) -> bool:
        """Whether a change or a whole step is waiting."""
        return bool(self._inbox) or len(self._rest) >= self.model.backend.step_samples

    def decode(self, samples: Samples, log_posteriors: NDArray[np.float32]) -> Answer | None:
        """Decode a step's log-posteriors, (V,); returns an answer if there is something to report.

        Raises:
            DataError: the model's output is not a number.
        """
        if np.isnan(log_posteriors[0]):
            raise DataError("the model's output is not a number (NaN); its weights are unusable")
        events = self._in_stream(self.decoder.push(log_posteriors[np.newaxis]))
        self.steps += 1
        answer = Answer(self.time_s, events) if events else None
        extras = self.extras
        if extras.posterior_steps and self.steps % extras.posterior_steps == 0:
            answer = answer or Answer(self.time_s)
            answer.posteriors = log_posteriors
        if extras.near_misses and (misses := self._near_misses()):
            answer = answer or Answer(self.time_s)
            answer.near_misses = misses
        if self.wanted_room is not None and self.waiting_samples <= self.wanted_room:
            answer = answer or Answer(self.time_s)
            answer.room, self.wanted_room = True, None
        if answer is not None:
            answer.delay_s = monotonic() - self.arrived_s
        return answer

    @property
    def time_s(self) -> float:
        """Seconds of the stream decoded so far."""
        return self.steps * self.model.step_s

    def flush(self) -> Answer:
        """Decode the pending steps; returns the last answer."""
        events = self._in_stream(self.decoder.flush())
        return Answer(self.time_s, events, self._near_misses(closing=True), ended=True)

    def _change(self, do: Callable[[], Any]) -> None:
        self._inbox.append(_Change(do))
        self._wake(self)

    def _new_resets(self) -> StateResets | None:
        policy = self.model.policy
        if policy.mode == "carry":
            return None
        return StateResets(policy, self.model.backend.step_samples, self.model.step_s)

    def _reset(self) -> None:
        self.taken += len(self._rest)
        self._rest = _NO_SAMPLES
        self.decoder.reset()
        self.resets = self._new_resets()
        self.steps, self._near_s, self._decoder_start_s = 0, 0.0, 0.0
        self.reset_wanted = True

    def _exchange(self, decoder: Any) -> None:
        """Replace the decoder; the times of the new one start from now."""
        self.decoder = decoder
        self._decoder_start_s, self._near_s = self.time_s, 0.0

    def _end(self) -> None:
        self.ended = True

    def _near_misses(self, closing: bool = False) -> list[Verdict]:
        if not self.extras.near_misses or not isinstance(self.decoder, Detector):
            return []
        if not closing and self.steps % NEAR_MISS_STEPS:
            return []
        misses = self.decoder.near_misses(self._near_s)
        if misses:
            self._near_s = max(miss.end_s for miss in misses)
        return self._in_stream(misses)

    def _in_stream(self, found: list[_Timed]) -> list[_Timed]:
        """Convert the decoder's times to the stream's."""
        start_s = self._decoder_start_s
        if not start_s or not found:
            return found
        return [
            replace(
                one, start_s=one.start_s + start_s, end_s=one.end_s + start_s, t=one.t + start_s
            )
            for one in found
        ]
