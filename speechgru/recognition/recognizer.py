"""A stream of samples to events: the one place that holds a model's state. Needs no torch."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import Samples
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Decoder, Event
from speechgru.decoding.factory import Answering, DecoderConfig, head_of, make_decoder, own_decoder
from speechgru.decoding.grammar import Grammar
from speechgru.errors import DataError, UsageError
from speechgru.labels import Head, columns
from speechgru.recognition.state_policy import CARRY, MODES, Resets, StatePolicy

#: What a backend carries: a mapping of names to arrays of fixed shape, of a type of its own; the
#: recurrent ones are named layer0, ...
State = Any
RECURRENT = "layer"

_NO_SAMPLES = np.empty(0, np.float32)

#: Most steps that one backend call takes: bounds the memory that minutes of samples need.
BLOCK_STEPS = 250


class Backend(Answering, Protocol):
    """A model as a stream needs it: `(samples, state) -> (log_posteriors, state)`."""

    def initial_state(self) -> State:
        """The state at a stream's start: as after silence.

        Raises:
            UsageError: the model needs whole clips.
        """
        ...

    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Whole steps of samples, (T step_samples,) -> log-posteriors (T, V), and the new state."""
        ...


class Recognizer:
    """Recognizes words in a stream: samples in, in any chunking, and the same events out.

    Keeps the samples of an unfinished step, the backend's state and the decoder's, and no more.
    Without a policy the state is carried for ever. The decoder gets the columns of one head, or all
    of them where none is named.
    """

    def __init__(
        self,
        backend: Backend,
        decoder: Decoder,
        policy: StatePolicy = CARRY,
        head: Head | None = None,
    ) -> None:
        self.backend = backend
        self.decoder = decoder
        self.policy = policy
        self.head = head
        self._carries = policy.mode == "carry"
        #: None where the decoder gets all columns.
        self._columns = None
        if head is not None and len(backend.outputs) > 1:
            self._columns = columns(backend.outputs, head)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream: time, samples, the model's state and the decoder's are forgotten."""
        self._state = self.backend.initial_state()
        self._rest = _NO_SAMPLES
        self._steps = 0
        self._resets = Resets(self.policy, self.backend.step_samples, self.step_s)
        self._last: NDArray[np.float32] | None = None
        self.decoder.reset()

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of the columns that the decoder gets, (V,)."""
        outputs = self.backend.outputs
        heads = outputs if self.head is None else [self.head]
        return tuple(label for head in heads for label in outputs[head])

    @property
    def sample_rate(self) -> int:
        """Hertz of the samples that are pushed."""
        return self.backend.sample_rate

    @property
    def step_s(self) -> float:
        """Seconds from one output to the next."""
        return self.backend.step_samples / self.backend.sample_rate

    @property
    def time_s(self) -> float:
        """Seconds of the stream that have been decoded."""
        return self._steps * self.step_s

    @property
    def log_posteriors(self) -> NDArray[np.float32] | None:
        """Those of the last step, (V,); None before the first one."""
        return None if self._last is None else self._last[-1]

    def push(self, samples: Samples) -> list[Event]:
        """Hear the next samples, (S,) float32 in [-1, 1], any number; gives the events they settle.

        Raises:
            DataError: a sample is NaN or infinite (nothing of this call is heard then), or the
                model's answer is not a number.
        """
        samples = self._checked(samples)
        if self._rest is not _NO_SAMPLES:
            samples = np.concatenate([self._rest, samples])
        step = self.backend.step_samples
        if len(samples) == step:  # the rule in a live stream
            self._rest = _NO_SAMPLES
            return self._hear(samples)
        events = []
        whole = len(samples) // step
        first = 0
        while first < whole:
            last = min(whole, first + self._block_steps)
            events += self._hear(samples[first * step : last * step])
            first = last
        rest = samples[whole * step :]
        self._rest = rest.copy() if len(rest) else _NO_SAMPLES  # a view would keep all in memory
        return events

    def flush(self) -> list[Event]:
        """The stream is over: gives the events that were still open.

        Samples after the last whole step, less than one step, are not decoded.
        """
        return self.decoder.flush()

    @property
    def _block_steps(self) -> int:
        """Steps that can be computed at once: up to where the state may be reset."""
        return BLOCK_STEPS if self._carries else self._resets.steps_ahead

    def _checked(self, samples: Samples) -> Samples:
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples of shape {samples.shape}: one channel, (S,), is needed")
        # Where the sum of squares is finite all are; where it is not, they may be just huge.
        if not math.isfinite(samples.dot(samples)) and not np.isfinite(samples).all():
            finite = np.isfinite(samples)
            place = int(np.argmin(finite))
            heard = self._steps * self.backend.step_samples + len(self._rest)
            raise DataError(
                f"sample {heard + place} of the stream is {samples[place]}; samples must be finite"
            )
        return samples

    def _hear(self, samples: Samples) -> list[Event]:
        """A block of whole steps through the model and the decoder."""
        log_posteriors, self._state = self.backend(samples, self._state)
        if self._columns is not None:
            log_posteriors = log_posteriors[:, self._columns]
        steps = len(log_posteriors)
        # Where one of a step's log-posteriors is not a number, none of them is; nor is a minimum of
        # several of which one is not.
        if math.isnan(log_posteriors.item(0) if steps == 1 else log_posteriors[:, 0].min()):
            raise DataError("the model's answer is not a number (NaN); its weights are unusable")
        events = self.decoder.push(log_posteriors)
        self._steps += steps
        self._last = log_posteriors
        if self._carries:
            return events
        if self._resets.hear(samples, events):
            self._reset_layers()
        return events

    def _reset_layers(self) -> None:
        """The recurrent state to zeros; what still belongs to the sound stays."""
        fresh = self.backend.initial_state()
        self._state = {
            name: fresh[name] if name.startswith(RECURRENT) else carried
            for name, carried in self._state.items()
        }


def stream_settings(
    metadata: Mapping[str, Any],
    threshold: float | None = None,
    mode: str | None = None,
    config: DecoderConfig | None = None,
) -> tuple[DecoderConfig, StatePolicy]:
    """A model's own detector and state policy, or what else is asked for.

    A `threshold` holds for all words; `mode` is that of the state policy; `config` comes in the
    place of the own detector.

    Raises:
        DataError: the model's own settings are invalid.
        UsageError: the threshold or the mode is.
    """
    if config is None:
        config = DetectorConfig.parse(metadata.get("decoder", {}), "the model's decoder settings")
    policy = StatePolicy.parse(metadata.get("state_policy", {}), "the model's state policy")
    if threshold is not None:
        if not 0 < threshold <= 1:
            raise UsageError(f"threshold {threshold:g}: above 0 and up to 1 is needed")
        config = config.model_copy(update={"threshold": threshold, "thresholds": {}})
    if mode is not None:
        if mode not in MODES:
            raise UsageError(f"state {mode!r}: one of {', '.join(MODES)} is needed")
        policy = policy.model_copy(update={"mode": mode})
    return config, policy


def open_recognizer(
    backend: Backend,
    config: DecoderConfig | None = None,
    policy: StatePolicy | None = None,
    grammar: Grammar | None = None,
) -> Recognizer:
    """A recognizer that listens to one head, by the model's own settings where none are given.

    Raises:
        DataError: the model's own settings are invalid.
        UsageError: a threshold is for a word that the model does not have.
    """
    if config is None:
        config = own_decoder(backend)
    _, own_policy = stream_settings(backend.metadata, config=config)
    decoder = make_decoder(backend, config, grammar)
    return Recognizer(backend, decoder, policy or own_policy, head_of(config))
