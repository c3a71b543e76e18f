"""A stream of an engine: its waiting samples, its decoder, and the answers it gives."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.gaps import GapBridge
from speechgru.audio.samples import Samples
from speechgru.decoding.ctc import CTCDecoder
from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.decoding.events import Event
from speechgru.decoding.factory import DecoderConfig, make_decoder
from speechgru.decoding.verdicts import Verdict
from speechgru.labels import SILENCE
from speechgru.recognition.state_policy import StateResets
from speechgru.serve.models import ServedModel

#: Steps between two checks for near misses.
NEAR_MISS_STEPS = 10

_Timed = TypeVar("_Timed", Event, Verdict)

_NO_SAMPLES = np.empty(0, np.float32)
#: The log-posterior of silence above which it is likelier than all else.
_SILENT = math.log(0.5)


@dataclass(frozen=True)
class Extras:
    """What a stream reports in addition to events: near misses, posteriors of every nth step."""

    near_misses: bool = False
    posterior_steps: int = 0


@dataclass(slots=True)
class Answer:
    """What a stream reports after some steps.

    `posteriors` are log-posteriors, (V,), with the seconds up to the end of their step. `delay_s`
    is the time since the last of their samples arrived. `ended` marks the last answer; an `error`
    ends the stream too. `caught_up`: the client may send more samples.
    """

    t: float
    events: list[Event] = field(default_factory=list)
    near_misses: list[Verdict] = field(default_factory=list)
    posteriors: list[tuple[float, NDArray[np.float32]]] = field(default_factory=list)
    delay_s: float = 0.0
    ended: bool = False
    caught_up: bool = False
    error: str | None = None


OnAnswer = Callable[[Answer], None]


@dataclass(frozen=True)
class _Change:
    """A change that waits between samples and is made once those before it are processed."""

    do: Callable[[], Any]


class Stream:
    """A stream of samples at the model's rate; all of it runs in the engine's event loop.

    Args:
        row: the stream's row in the engine's `Rows`.
        on_answer: called with each answer.
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
        self.decoder = self._make_decoder(config or model.config)
        self.resets = self._new_resets()
        self._step_samples = model.backend.step_samples
        self._wake = wake
        self._inbox: deque[Samples | _Change] = deque()
        self._rest = _NO_SAMPLES
        self._bridge = GapBridge(model.backend.sample_rate)
        #: Samples pushed, and samples processed.
        self.pushed = self.taken = 0
        #: When samples arrived, with `pushed` then; when the last that were taken did.
        self._arrivals: deque[tuple[int, float]] = deque()
        self.arrived_s = 0.0
        #: Steps processed since the start or the last reset.
        self.steps = 0
        #: Where the decoder started, and up to where near misses were reported.
        self._decoder_start_s = self._near_s = 0.0
        #: If somebody waits for the engine: how many samples may be waiting then.
        self.wanted_waiting: int | None = None
        self.queued = self.ended = self.closed = False
        #: Whether it was opened without settings of its own.
        self.has_model_settings = False
        #: What the engine has to do before the next step: the state is to start anew; the decoder
        #: has been replaced or reset; its thresholds have changed.
        self.reset_wanted = False
        self.decoder_changed = True
        self.thresholds_changed = False
        #: Whether the engine decodes it together with other streams.
        self.decoded_together = False
        #: Whether the last step was probably silence.
        self.hears_silence = False
        labels = model.labels
        self._silence = labels.index(SILENCE) if SILENCE in labels else None

    @property
    def waiting_samples(self) -> int:
        """Samples pushed and not yet processed."""
        return self.pushed - self.taken

    def push(self, samples: Samples, lost: int = 0) -> None:
        """Add the next samples, (S,) finite float32 in [-1, 1], after `lost` that never came."""
        samples = self._bridge.push(samples, lost)
        self.pushed += len(samples)
        if len(samples):
            self._arrivals.append((self.pushed, monotonic()))
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
        decoder = self._make_decoder(config)
        self._change(lambda: self._exchange(decoder))

    def finish(self) -> None:
        """End the stream after the waiting samples; the last answer has `ended` set."""
        self._change(self._end)

    def take(self, most_steps: int) -> Samples | None:
        """Make the changes that are due; returns up to so many whole steps, (S,), if any."""
        size = self._step_samples
        if self.resets is not None:
            most_steps = min(most_steps, self.resets.steps_ahead)
        while len(self._rest) < most_steps * size and self._inbox:
            item = self._inbox[0]
            if not isinstance(item, _Change):
                self._rest = np.concatenate([self._rest, item]) if len(self._rest) else item
            elif len(self._rest) >= size:
                break  # it is due once the samples before it are processed
            else:
                item.do()
            self._inbox.popleft()
            if self.ended or self.reset_wanted:
                return None
        taken = min(len(self._rest) // size, most_steps) * size
        if not taken:
            return None
        samples, self._rest = self._rest[:taken], self._rest[taken:]
        self.taken += taken
        while self._arrivals[0][0] < self.taken:
            self._arrivals.popleft()
        self.arrived_s = self._arrivals[0][1]
        return samples

    @property
    def has_more(self) -> bool:
        """Whether a change or a whole step is waiting."""
        return bool(self._inbox) or len(self._rest) >= self._step_samples

    def advance(self, log_posteriors: NDArray[np.float32], events: list[Event]) -> Answer | None:
        """Count processed steps, (T, V); returns an answer if there is something to report.

        Args:
            events: those that the stream's decoder emitted for these steps.
        """
        first = self.steps
        self.steps += len(log_posteriors)
        if self._silence is not None:
            self.hears_silence = bool(log_posteriors[-1, self._silence] > _SILENT)
        extras = self.extras
        answer = Answer(self.time_s, self._in_stream(events)) if events else None
        if extras.posterior_steps:
            places = range(-(first + 1) % extras.posterior_steps, len(log_posteriors))
            every = [
                (self.model.step_s * (first + place + 1), log_posteriors[place])
                for place in places[:: extras.posterior_steps]
            ]
            if every:
                answer = answer or Answer(self.time_s)
                answer.posteriors = every
        if extras.near_misses and (misses := self._near_misses(first)):
            answer = answer or Answer(self.time_s)
            answer.near_misses = misses
        if self.wanted_waiting is not None and self.waiting_samples <= self.wanted_waiting:
            answer = answer or Answer(self.time_s)
            answer.caught_up, self.wanted_waiting = True, None
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
        return Answer(self.time_s, events, self._near_misses(), ended=True)

    def _make_decoder(self, config: DecoderConfig) -> Detector | CTCDecoder:
        decoder = make_decoder(self.model.backend.info, config)
        if isinstance(decoder, Detector):
            decoder.notes_verdicts = self.extras.near_misses
        return decoder

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
        self.reset_wanted = self.decoder_changed = True

    def _exchange(self, decoder: Detector | CTCDecoder) -> None:
        """Replace the decoder, whose times start from now, or only a detector's thresholds.

        A new detector would have forgotten that the word being spoken has been an event.
        """
        old = self.decoder
        if (
            isinstance(old, Detector)
            and isinstance(decoder, Detector)
            and _without_thresholds(old.config) == _without_thresholds(decoder.config)
        ):
            old.change_thresholds(decoder.config)
            self.thresholds_changed = True
            return
        self.decoder, self.decoder_changed = decoder, True
        self._decoder_start_s, self._near_s = self.time_s, 0.0

    def _end(self) -> None:
        self.ended = True

    def _near_misses(self, first: int | None = None) -> list[Verdict]:
        """New near misses; with the number of a first step only at every `NEAR_MISS_STEPS`th."""
        if not self.extras.near_misses or not isinstance(self.decoder, Detector):
            return []
        if first is not None and first // NEAR_MISS_STEPS == self.steps // NEAR_MISS_STEPS:
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


def _without_thresholds(config: DetectorConfig) -> DetectorConfig:
    return config.model_copy(update={"threshold": 1.0, "thresholds": {}})
