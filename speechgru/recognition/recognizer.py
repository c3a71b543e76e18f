"""A stream of samples to events: the one place that holds a model's state."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.gaps import GapBridge
from speechgru.audio.pcm import to_floats
from speechgru.audio.samples import Samples
from speechgru.decoding.ctc import CTCConfig
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Decoder, Event
from speechgru.decoding.factory import DecoderConfig, decoder_settings, head_of, make_decoder
from speechgru.decoding.grammar import Grammar
from speechgru.errors import DataError, UsageError
from speechgru.labels import Head, Outputs, columns
from speechgru.recognition.backend import Backend, State
from speechgru.recognition.state_policy import CARRY, MODES, StatePolicy, StateResets

#: The prefix of the names of recurrent layers in a backend's state.
RECURRENT = "layer"
#: Steps in one backend call at most: bounds the memory that minutes of samples need.
BLOCK_STEPS = 250
#: Float samples above this were probably not scaled to [-1, 1]; clipped peaks reach about 1.
UNSCALED_PEAK = 8.0
#: 32-bit recordings are never as quiet as 16-bit values, 96 dB below full scale; but they may be
#: silent, up to a few bits of noise.
QUIET_INT32 = 256
#: No sample format has larger values; much larger ones overflow in the spectrum.
LARGEST_SAMPLE = 2.0**31

_NO_SAMPLES = np.empty(0, np.float32)


class Recognizer:
    """Recognizes words in a stream: the same samples give the same events in any chunking.

    It keeps the samples of an incomplete step, the last half second to bridge gaps with, the
    backend's state and the decoder's, and nothing else, so memory does not grow with the stream.

    Args:
        decoder: takes the columns of `head`, or all of them if no head is named.
        policy: when the recurrent state is reset; by default never.
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
        self._step_samples = backend.step_samples
        self._carries = policy.mode == "carry"
        #: None: the decoder takes all columns.
        self._columns = None
        if head is not None and len(backend.outputs) > 1:
            self._columns = columns(backend.outputs, head)
        self._has_warned = False
        self.reset()

    def reset(self) -> None:
        """Start a new stream: forget the time, the samples, the model's state and the decoder's."""
        self._state = self.backend.initial_state()
        self._remainder = _NO_SAMPLES
        self._bridge = GapBridge(self.sample_rate)
        self._steps = 0
        self._resets = StateResets(self.policy, self._step_samples, self.step_s)
        self._last: NDArray[np.float32] | None = None
        #: Events settled by a `push` before it failed.
        self._undelivered: list[Event] = []
        self.decoder.reset()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the columns that the decoder takes, (V,)."""
        outputs = self.backend.outputs
        heads = outputs if self.head is None else [self.head]
        return tuple(label for head in heads for label in outputs[head])

    @property
    def sample_rate(self) -> int:
        """Hertz of the samples to push."""
        return self.backend.sample_rate

    @property
    def step_s(self) -> float:
        """Seconds from one step to the next."""
        return self.backend.info.step_s

    @property
    def time_s(self) -> float:
        """Seconds of the stream decoded so far."""
        return self._steps * self.step_s

    @property
    def log_posteriors(self) -> NDArray[np.float32] | None:
        """Those of the last step, (V,); None before the first step."""
        return None if self._last is None else self._last[-1]

    def push(self, samples: NDArray[Any], lost: int = 0) -> list[Event]:
        """Process the next samples, (S,), any number of them; returns the events they settle.

        Samples are floats in [-1, 1], or int16, int32 or uint8, which are scaled by the range of
        their type. Floats far above 1, and 16-bit values as int32, are processed with a warning,
        once.

        Args:
            lost: how many samples before these never came, as after a network's lost packet. The
                stream's time goes on and the model keeps its state; the gap is filled with sound
                like that before it (`speechgru.audio.gaps`).

        After an error the stream can go on: neither the state nor the decoder has seen the block
        that caused it, and events settled before it are returned by the next call.

        Raises:
            DataError: a sample is not finite, or larger than any sample format allows (nothing of
                this call is processed); or the model's output is not a number (what follows that
                block in this call is dropped with it).
            TypeError: the samples are of another type, or bytes, which have none.
            ValueError: there is more than one channel, or `lost` is negative.
        """
        if lost < 0:
            raise ValueError(f"lost={lost}: a number of samples, 0 or more, is needed")
        if not isinstance(samples, np.ndarray):
            samples = _as_array(samples)
        samples = self._bridge.push(self._checked(samples, lost), lost)
        if self._remainder is not _NO_SAMPLES:
            samples = np.concatenate([self._remainder, samples])
        events, self._undelivered = self._undelivered, []
        step = self._step_samples
        if len(samples) == step and not events:  # common in a live stream
            self._remainder = _NO_SAMPLES
            return self._process(samples)
        steps = len(samples) // step
        remainder = samples[steps * step :]
        # A copy, as a view would keep all samples in memory.
        self._remainder = remainder.copy() if len(remainder) else _NO_SAMPLES
        first = 0
        try:
            while first < steps:
                last = min(steps, first + self._block_steps)
                events += self._process(samples[first * step : last * step])
                first = last
        except DataError:
            self._undelivered, self._remainder = events, _NO_SAMPLES
            raise
        return events

    def flush(self) -> list[Event]:
        """End the stream: returns the events that were still open.

        Samples after the last whole step are not decoded.
        """
        events, self._undelivered = self._undelivered, []
        return events + self.decoder.flush()

    @property
    def _block_steps(self) -> int:
        """Steps that can run in one call: up to where the state may be reset."""
        return BLOCK_STEPS if self._carries else self._resets.steps_ahead

    def _checked(self, samples: NDArray[Any], lost: int) -> Samples:
        if samples.dtype != np.float32:
            if samples.dtype == np.int32:
                self._check_scale(samples)
            samples = to_floats(samples)
        if samples.ndim != 1:
            raise ValueError(f"samples of shape {samples.shape}: one channel, (S,), is needed")
        # The sum of squares is quick, and rules out for nearly all blocks that a sample is large;
        # if it is not a number, some sample is not either.
        with np.errstate(over="ignore", invalid="ignore"):
            power = samples.dot(samples)
        if not power <= UNSCALED_PEAK**2:
            self._check_peak(samples, lost)
        return samples

    def _check_scale(self, samples: NDArray[np.int32]) -> None:
        """Warn, once, of 16-bit values in 32 bits, which would be as good as silence."""
        peak = int(np.abs(samples.astype(np.int64)).max(initial=0))
        if not self._has_warned and QUIET_INT32 <= peak <= 2**15:
            self._has_warned = True
            warnings.warn(
                f"int32 samples reach {peak:,} of 2,147,483,648, which is near silence: push "
                "16-bit values as int16",
                stacklevel=4,
            )

    def _check_peak(self, samples: Samples, lost: int) -> None:
        peak = np.abs(samples).max()
        if not peak <= LARGEST_SAMPLE:
            bad = int(np.argmin(np.abs(samples) <= LARGEST_SAMPLE))
            place = self._steps * self._step_samples + len(self._remainder) + lost + bad
            raise DataError(
                f"sample {place} of the stream is {samples[bad]:g}; samples must be finite and "
                "in [-1, 1]"
            )
        if peak > UNSCALED_PEAK and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"float samples reach {peak:g}, where [-1, 1] is expected: divide 16-bit values by "
                "32768, or push them as int16",
                stacklevel=4,
            )

    def _process(self, samples: Samples) -> list[Event]:
        """Run a block of whole steps through the model and the decoder."""
        log_posteriors, state = self.backend(samples, self._state)
        if self._columns is not None:
            log_posteriors = log_posteriors[:, self._columns]
        steps = len(log_posteriors)
        # If one of a step's log-posteriors is NaN, all of them are; and so is a minimum over steps.
        if math.isnan(log_posteriors.item(0) if steps == 1 else log_posteriors[:, 0].min()):
            raise DataError(
                f"the model's output is not a number (NaN) in the block at {self.time_s:.2f} s of "
                "the stream, which was dropped; the model's weights may be unusable"
            )
        self._state = state
        events = self.decoder.push(log_posteriors)
        self._steps += steps
        self._last = log_posteriors
        if self._carries:
            return events
        if self._resets.update(samples, events):
            self._reset_layers()
        return events

    def _reset_layers(self) -> None:
        self._state = with_initial_layers(self.backend, self._state)


def with_initial_layers(backend: Backend, state: State) -> State:
    """The state with its recurrent layers at zero; the context of samples and frames stays."""
    initial = backend.initial_state()
    return {
        name: initial[name] if name.startswith(RECURRENT) else carried
        for name, carried in state.items()
    }


def stream_settings(
    metadata: Mapping[str, Any],
    threshold: float | None = None,
    mode: str | None = None,
    config: DecoderConfig | None = None,
) -> tuple[DecoderConfig, StatePolicy]:
    """The decoder settings and state policy in a model's metadata, with what overrides them.

    Args:
        threshold: for all words.
        mode: of the state policy.
        config: replaces the detector settings in the metadata.

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


def complete_settings(metadata: Mapping[str, Any], outputs: Outputs) -> dict[str, Any]:
    """The metadata with every setting of the decoders and the state policy, defaults too.

    A program in another language thus needs no defaults of its own.

    Raises:
        DataError: the model's own settings are invalid.
    """
    complete = dict(metadata)
    config, policy = stream_settings(metadata)
    if "classify" in outputs:
        complete["decoder"] = config.model_dump()
    if "ctc" in outputs:
        own = CTCConfig.parse(metadata.get("ctc_decoder", {}), "the model's CTC decoder settings")
        complete["ctc_decoder"] = own.model_dump()
    return complete | {"state_policy": policy.model_dump()}


def open_recognizer(
    backend: Backend,
    config: DecoderConfig | None = None,
    policy: StatePolicy | None = None,
    grammar: Grammar | None = None,
) -> Recognizer:
    """A recognizer for the head in use, with the model's own settings unless others are given.

    Raises:
        DataError: the model's own settings are invalid.
        UsageError: a threshold is for a word that the model does not have.
    """
    if config is None:
        config = decoder_settings(backend.info)
    _, own_policy = stream_settings(backend.metadata, config=config)
    decoder = make_decoder(backend.info, config, grammar)
    return Recognizer(backend, decoder, policy or own_policy, head_of(config))


def _as_array(samples: Any) -> NDArray[Any]:
    if isinstance(samples, bytes | bytearray) or (
        isinstance(samples, memoryview) and samples.format in ("b", "B", "c")
    ):
        raise TypeError("bytes do not say what samples they are: np.frombuffer(data, np.int16)")
    return np.asarray(samples)
