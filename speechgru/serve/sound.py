"""Converts a client's PCM of any rate, width and number of channels to samples for a model."""

import math
import struct
from typing import Literal

import numpy as np

from speechgru.audio.file_kinds import kind_of_file
from speechgru.audio.files import LARGEST_FLOAT
from speechgru.audio.samples import Samples, StreamResampler
from speechgru.errors import UsageError

#: Little-endian integers of 8 to 32 bits, or 32-bit floating point numbers in [-1, 1].
SampleFormat = Literal["s8", "s16le", "s24le", "s32le", "f32le"]

WIDTHS: dict[SampleFormat, int] = {"s8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
#: Formats by bytes per sample, for protocols that have integers only.
BY_WIDTH: dict[int, SampleFormat] = {1: "s8", 2: "s16le", 3: "s24le", 4: "s32le"}

RATES_HZ = range(4_000, 384_001)
MOST_CHANNELS = 16
#: Types of samples in a WAV file's header.
_FLOAT, _EXTENSIBLE = 3, 0xFFFE
_INT_16 = np.dtype("<i2")
_SCALE_16 = np.float32(2**-15)


class Sound:
    """Decodes interleaved PCM in any chunking, averages its channels, and resamples the stream.

    Args:
        to_rate: the model's sample rate in hertz.
        channel: the one channel to use, from 1; None averages all of them.

    Raises:
        UsageError: the rate, the format, the number of channels or the channel is not allowed.
    """

    def __init__(
        self,
        rate: int,
        sample_format: str,
        channels: int,
        to_rate: int,
        channel: int | None = None,
    ) -> None:
        _check("rate", rate, RATES_HZ)
        _check("channels", channels, range(1, MOST_CHANNELS + 1))
        if channel is not None:
            _check("channel", channel, range(1, channels + 1))
        if sample_format not in list(WIDTHS):  # a client may send a JSON value that has no hash
            raise UsageError(f"format {sample_format!r:.40}: one of {', '.join(WIDTHS)} is needed")
        self.rate, self.channels, self.to_rate = rate, channels, to_rate
        self.format: SampleFormat = sample_format
        #: Bytes in a sample.
        self.width = WIDTHS[self.format]
        self._channel = channel
        self._resampler = self._new_resampler()
        self._rest = b""
        self._has_begun = False
        #: Whether samples need no more than scaling, as integers are finite and in range.
        self._is_ready = (rate, sample_format, channels) == (to_rate, "s16le", 1)

    def push(self, content: bytes) -> Samples:
        """Process the next bytes, any number of them; returns the samples that are ready, (S,).

        Raises:
            DataError: a sample is NaN or infinite.
            UsageError: floats have the values of integers; or the first bytes are those of a file,
                or of a WAV file of another format.
        """
        if content and not self._has_begun:
            self._check_is_pcm(content)
            self._has_begun = True
        if self._rest:
            content = self._rest + content
        odd = len(content) % (self.width * self.channels)
        self._rest = content[len(content) - odd :] if odd else b""
        content = content[: len(content) - odd] if odd else content
        if self._is_ready:
            return _scaled_16(content)
        frames = _floats(content, self.format)
        if self.format == "f32le" and len(frames):
            peak = float(np.abs(frames).max())
            if math.isfinite(peak) and peak > LARGEST_FLOAT:
                raise UsageError(
                    f"f32le samples of up to {peak:.3g}: floats in [-1, 1] are needed; divide "
                    "16-bit values by 32768, or send them as s16le"
                )
        if self.channels > 1:
            frames = frames.reshape(-1, self.channels)
        return self._resampler.push(frames)

    def flush(self) -> Samples:
        """End the stream: returns the samples that were still in the filter, (S,).

        What is pushed next begins another one.
        """
        settled = self._resampler.flush()
        self._resampler = self._new_resampler()
        self._rest = b""
        return settled

    def skip(self, frames: int) -> tuple[Samples, int]:
        """Skip frames that the client reports as lost.

        Returns the samples before the gap that were still in the filter, (S,), and the length of
        the gap in samples at the model's rate.
        """
        # A filter across the gap would blur both of its sides.
        return self.flush(), round(frames * self.to_rate / self.rate)

    def _new_resampler(self) -> StreamResampler:
        return StreamResampler(self.rate, self.to_rate, "the stream", self._channel)

    def _check_is_pcm(self, start: bytes) -> None:
        if (kind := kind_of_file(start)) is not None:
            raise UsageError(f"the sound is {kind}; PCM is needed")
        if start[:4] != b"RIFF" or start[8:16] != b"WAVEfmt " or len(start) < 36:
            return
        tag, channels, rate = struct.unpack_from("<HHI", start, 20)
        bits, subtype = (int.from_bytes(start[at : at + 2], "little") for at in (34, 44))
        is_float = (subtype if tag == _EXTENSIBLE else tag) == _FLOAT
        found = "u8" if bits == 8 else f"{'f' if is_float else 's'}{bits}le"
        if (found, rate, channels) != (self.format, self.rate, self.channels):
            raise UsageError(
                f"the sound is a WAV file of {found}, {rate} Hz, channels: {channels}; "
                f"the stream began as {self.format}, {self.rate} Hz, channels: {self.channels}"
            )


def _scaled_16(content: bytes) -> Samples:
    """A quarter of the time of a product with a scalar, which first looks for a common type."""
    samples = np.frombuffer(content, _INT_16).astype(np.float32)
    samples *= _SCALE_16
    return samples


def _floats(content: bytes, sample_format: SampleFormat) -> Samples:
    """Whole samples as floats in [-1, 1]."""
    match sample_format:
        case "s16le":
            return _scaled_16(content)
        case "f32le":
            return np.frombuffer(content, "<f4").astype(np.float32)
        case "s32le":
            return (np.frombuffer(content, "<i4") * 2.0**-31).astype(np.float32)
        case "s24le":
            padded = np.zeros((len(content) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
            return (padded.view("<i4")[:, 0] * 2.0**-31).astype(np.float32)
        case "s8":
            return np.frombuffer(content, np.int8).astype(np.float32) * np.float32(2**-7)


def _check(name: str, value: int, allowed: range) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        least, most = allowed[0], allowed[-1]
        raise UsageError(f"{name} {value!r:.40}: a whole number, {least} to {most}, is needed")
