"""PCM: bytes from a pipe to frames, floats to 16 bits and back, the header of a WAV file."""

import io
import wave
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.samples import Samples
from speechgru.errors import UsageError

#: Little-endian 16-bit integers, or 32-bit floats in [-1, 1].
PcmFormat = Literal["s16le", "f32le"]
#: Those, and what else there is in WAV files.
SampleFormat = Literal["s16le", "f32le", "u8", "s24le", "s32le", "f64le"]

#: 16-bit samples divided by this are in [-1, 1]; the conversion there and back is exact.
FULL_SCALE = 32_768.0

#: Samples of 16 bits, as recordings are cached.
Packed = NDArray[np.int16]

WAV_HEADER_BYTES = 44

#: 24 bits are read as bytes.
_TYPES: dict[SampleFormat, np.dtype] = {
    "s16le": np.dtype("<i2"),
    "f32le": np.dtype("<f4"),
    "u8": np.dtype("u1"),
    "s24le": np.dtype("3u1"),
    "s32le": np.dtype("<i4"),
    "f64le": np.dtype("<f8"),
}
_MAX_CHANNELS = 64


def parse_format(name: str) -> PcmFormat:
    """A format by name.

    Raises:
        UsageError: there is no such format.
    """
    for known in get_args(PcmFormat):
        if name == known:
            return known
    raise UsageError(f"--format {name}: {' or '.join(get_args(PcmFormat))} is needed")


class PcmDecoder:
    """Decodes interleaved PCM in any chunking; the bytes of an incomplete frame wait in `rest`.

    Raises:
        UsageError: the number of channels is not 1 to 64.
    """

    def __init__(self, sample_format: SampleFormat = "s16le", channels: int = 1) -> None:
        if not 1 <= channels <= _MAX_CHANNELS:
            raise UsageError(f"--channels {channels}: 1 to {_MAX_CHANNELS} are needed")
        self._type = _TYPES[sample_format]
        self.channels = channels
        self.rest = b""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self._type.itemsize * self.channels

    def push(self, content: bytes) -> Samples:
        """The next bytes, any number; returns the complete frames, float32 of (S, channels).

        Float samples are not changed: NaN and values beyond full scale pass through.
        """
        content = self.rest + content
        whole = len(content) - len(content) % self.frame_bytes
        self.rest = content[whole:]
        numbers = np.frombuffer(content[:whole], self._type)
        if self._type.itemsize == 3:  # as the upper bytes of 32 bits
            wide = np.zeros((len(numbers), 4), np.uint8)
            wide[:, 1:] = numbers
            numbers = wide.view("<i4")
        with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, which is reported
            return to_floats(numbers).reshape(-1, self.channels)


def to_packed(samples: NDArray[np.floating]) -> Packed:
    """Samples in [-1, 1] to 16 bits, same shape; values beyond are clipped."""
    return np.clip(np.rint(samples * FULL_SCALE), -32768, 32767).astype("<i2")


def to_floats(samples: NDArray[Any]) -> Samples:
    """Samples as float32 in [-1, 1], same shape: integers are scaled by the range of their type.

    Raises:
        TypeError: the type is not float, int16, int32 or uint8.

    >>> to_floats(np.array([-32768, 16384], np.int16)).tolist()
    [-1.0, 0.5]
    >>> to_floats(np.array([0, 128, 192], np.uint8)).tolist()
    [-1.0, 0.0, 0.5]
    """
    if not samples.dtype.isnative:
        samples = samples.astype(samples.dtype.newbyteorder("="))
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:  # unsigned PCM: 128 is silence
        return (samples.astype(np.float32) - 128.0) / np.float32(128.0)
    if samples.dtype in (np.int16, np.int32):
        # A power of two, so that the result is exact for 16 bits.
        return samples.astype(np.float32) / np.float32(-int(np.iinfo(samples.dtype).min))
    raise TypeError(
        f"samples of type {samples.dtype}: floats in [-1, 1], int16, int32 or uint8 are needed"
    )


def wav_header(rate: int, size_bytes: int) -> bytes:
    """The header of a WAV file of one channel and 16 bits with `size_bytes` of samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, size_bytes // 2, "NONE", ""))
        file.writeframesraw(b"")
        header = buffer.getvalue()
    return header
