"""Samples as the network takes them: mono, at its rate, in a clip's length."""

import numpy as np
import soxr
from numpy.typing import NDArray

from speechgru.audio.speech_levels import speech_weights
from speechgru.errors import DataError, UsageError

SAMPLE_RATE = 16_000
#: Beyond these a rate is wrong, or made to exhaust the memory.
MIN_RATE, MAX_RATE = 1_000, 768_000

Samples = NDArray[np.float32]

#: Of soxr: 20 bits.
_QUALITY = "HQ"

#: For `loudest_start`. Stretches with this share of the best one's speech hold the same word.
_FRAME_S, _NEARLY_ALL = 0.02, 0.98


def to_mono(
    frames: NDArray[np.floating],
    from_rate: int,
    rate: int,
    name: str = "audio",
    channel: int | None = None,
) -> Samples:
    """Mix (S, channels) or (S,) to one channel, resample and clip to [-1, 1]; shape (S,).

    Args:
        name: what messages call the recording.
        channel: the one channel to take, from 1; None averages all of them.

    Raises:
        DataError: a sample is NaN or infinite, or there is no such channel.
    """
    mono = _mix(frames, channel, name)
    if from_rate != rate:
        mono = soxr.resample(mono, from_rate, rate, quality=_QUALITY)
    return np.clip(mono, -1.0, 1.0)


class StreamResampler:
    """Makes a stream mono at `rate` hertz, block by block, with the result of `to_mono`.

    A block comes out up to 40 ms later than it went in (80 ms from 96 kHz): the filter looks ahead.

    Args:
        from_rate: hertz of what goes in.
        rate: hertz of what comes out.
        name: what messages call the stream.
        channel: the one channel to take, from 1; None averages all of them.
    """

    def __init__(
        self,
        from_rate: int,
        rate: int = SAMPLE_RATE,
        name: str = "audio",
        channel: int | None = None,
    ) -> None:
        self._name, self._channel = name, channel
        self._position = 0
        self._stream = None
        if from_rate != rate:
            self._stream = soxr.ResampleStream(
                from_rate, rate, 1, dtype="float32", quality=_QUALITY
            )

    def push(self, frames: NDArray[np.floating]) -> Samples:
        """The next frames, (S, channels) or (S,), any number; returns samples (S,) so far settled.

        Raises:
            DataError: a sample is NaN or infinite, or there is no such channel.
        """
        mono = _mix(frames, self._channel, self._name, self._position)
        self._position += len(mono)
        if self._stream is not None:
            mono = self._stream.resample_chunk(mono)
        return np.clip(mono, -1.0, 1.0)

    def flush(self) -> Samples:
        """The end of the stream: returns the samples that are still in the filter, (S,)."""
        if self._stream is None:
            return np.empty(0, np.float32)
        return np.clip(self._stream.resample_chunk(np.empty(0, np.float32), last=True), -1.0, 1.0)


def fit(samples: Samples, length_samples: int, rate: int = SAMPLE_RATE) -> Samples:
    """Make a clip exactly `length_samples` long: shape (length_samples,).

    A shorter one is padded with silence at its end; of a longer one `loudest_start` remains.
    """
    surplus = len(samples) - length_samples
    if surplus <= 0:
        return np.pad(samples, (0, -surplus))
    start = loudest_start(samples, length_samples, rate)
    return samples[start : start + length_samples]


def loudest_start(
    samples: Samples | NDArray[np.int16], length_samples: int, rate: int = SAMPLE_RATE
) -> int:
    """Where the stretch of `length_samples` with the most speech starts: it is in its middle.

    A frame of 20 ms counts as `speech_weights` says. So neither thumps, hum or a sinking offset,
    which lie below the bands of speech, nor beeps and music, which are in few of them or steady,
    nor clicks, which are loud but short, win over a word.
    """
    return speech_starts(samples, length_samples, rate, 1)[0]


def speech_starts(
    samples: Samples | NDArray[np.int16], length_samples: int, rate: int, most: int
) -> list[int]:
    """`loudest_start` and where the next stretches with much speech start: 1 to `most` of them.

    Two of them overlap by about half at most.
    """
    surplus = len(samples) - length_samples
    hop = round(_FRAME_S * rate / 2)
    frames = length_samples // hop - 1  # in the stretch
    if surplus <= 0 or frames < 1:
        return [max(0, surplus) // 2]
    sums = np.concatenate(([0.0], np.cumsum(speech_weights(samples, rate, hop))))
    totals = sums[frames:] - sums[:-frames]
    starts: list[int] = []
    while len(starts) < most and (not starts or totals.max() > 0):
        best = int(np.argmax(totals))
        less = np.flatnonzero(totals < _NEARLY_ALL * totals[best])
        first = int(less[less < best].max(initial=-1)) + 1
        last = int(less[less > best].min(initial=len(totals))) - 1
        middle = (first + last) // 2
        starts.append(min((first + last) * hop // 2, surplus))
        totals[max(0, middle - frames // 2) : middle + frames // 2 + 1] = -1.0
    return starts


def check_rate(rate: int) -> None:
    """Raise UsageError for a rate that no recording has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UsageError(f"--rate {rate}: {MIN_RATE:,} to {MAX_RATE:,} Hz are supported")


def check_channel(channel: int | None, channels: int | None = None) -> None:
    """Raise UsageError unless a channel, counted from 1, is one of so many."""
    if channel is not None and channel < 1:
        raise UsageError(f"--channel {channel}: channels are counted from 1")
    if channel is not None and channels is not None and channel > channels:
        raise UsageError(f"--channel {channel}: there are {channels} channels (--channels)")


def check_has_channel(channel: int | None, channels: int, name: str | None) -> None:
    """Raise DataError unless a recording of this name, with so many channels, has the channel."""
    if channel is not None and not 1 <= channel <= channels:
        raise DataError(
            f"{name}: there is no channel {channel}; it has {channels} "
            f"channel{'s' * (channels > 1)}"
        )


def _mix(
    frames: NDArray[np.floating], channel: int | None, name: str, position: int = 0
) -> Samples:
    """One channel of frames that start at `position` of a stream, all of it finite: (S,)."""
    columns = frames[:, np.newaxis] if frames.ndim == 1 else frames
    check_has_channel(channel, columns.shape[1], name)
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        if channel is not None:
            mono = columns[:, channel - 1]
        else:
            mono = frames if frames.ndim == 1 else frames.mean(axis=1)
    finite = np.isfinite(mono)
    if not finite.all():
        first = int(np.argmin(finite))
        raise DataError(
            f"{name}: sample {position + first} is {mono[first]}; samples must be finite"
        )
    return np.ascontiguousarray(mono, np.float32)
