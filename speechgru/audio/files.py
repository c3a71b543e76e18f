"""Recordings, PCM and arrays to mono float32 at the model's rate."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from speechgru.errors import DataError

SAMPLE_RATE = 16_000
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"})

Samples = NDArray[np.float32]

_QUALITY = "HQ"  # of soxr: 20 bits

_CHUNK_ORDERS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says, before anything is decoded."""

    rate: int
    channels: int
    frames: int
    subtype: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate


def probe(path: Path) -> AudioInfo:
    """Read a recording's header.

    Raises:
        DataError: the file is missing, empty, or no audio file.
    """
    with _opened(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.subtype)


def read(path: Path, rate: int = SAMPLE_RATE) -> Samples:
    """Decode a recording to mono float32 in [-1, 1] at `rate` hertz, shape (S,).

    Channels are averaged; other rates are resampled (soxr, high quality); floating point samples
    beyond full scale are clipped.

    Raises:
        DataError: missing, empty, truncated or no audio file, or samples that are not finite.
    """
    frames, native_rate = decode(path)
    return to_mono(frames, native_rate, rate, name=str(path))


def decode(path: Path) -> tuple[Samples, int]:
    """Decode a recording as it is: float32 of shape (S, channels), and its rate in hertz.

    Raises:
        DataError: missing, empty, truncated or no audio file.
    """
    with _opened(path) as file:
        expected, rate = file.frames, file.samplerate
        try:
            frames = file.read(dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise DataError(f"{path}: cannot be decoded: {_reason(error)}") from error
    if len(frames) == 0:
        raise DataError(f"{path}: 0 samples; a recording needs at least one")
    if 0 < len(frames) < expected < 2**62:
        raise DataError(f"{path}: truncated: {len(frames)} of {expected} samples are there")
    _check_whole(path)
    return frames, rate


def to_mono(
    frames: NDArray[np.floating], from_rate: int, rate: int, name: str = "audio"
) -> Samples:
    """Average the channels of (S, channels) or (S,), resample and clip to [-1, 1]; shape (S,).

    Raises:
        DataError: a sample is NaN or infinite.
    """
    mono = _averaged(frames, name)
    if from_rate != rate:
        mono = soxr.resample(mono, from_rate, rate, quality=_QUALITY)
    return np.clip(mono, -1.0, 1.0)


def blocks(path: Path, block_s: float = 1.0) -> Iterator[tuple[Samples, int]]:
    """Decode a recording piece by piece: float32 of (S, channels), and the rate in hertz.

    Raises:
        DataError: missing, empty, truncated or no audio file.
    """
    with _opened(path) as file:
        _check_whole(path)
        expected, heard = file.frames, 0
        size = max(1, round(block_s * file.samplerate))
        while True:
            try:
                frames = file.read(size, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise DataError(f"{path}: cannot be decoded: {_reason(error)}") from error
            if len(frames) == 0:
                break
            heard += len(frames)
            yield frames, file.samplerate
    if heard == 0:
        raise DataError(f"{path}: 0 samples; a recording needs at least one")
    if heard < expected < 2**62:
        raise DataError(f"{path}: truncated: {heard} of {expected} samples are there")


class StreamResampler:
    """Makes a stream mono at `rate` hertz: block by block the samples that `to_mono` gives.

    A block comes out up to 40 ms later than it went in (80 ms from 96 kHz): a filter looks ahead.

    Args:
        from_rate: hertz of what goes in.
        rate: hertz of what comes out.
        name: what messages call the stream.
    """

    def __init__(self, from_rate: int, rate: int = SAMPLE_RATE, name: str = "audio") -> None:
        self._name = name
        self._heard = 0
        self._stream = None
        if from_rate != rate:
            self._stream = soxr.ResampleStream(
                from_rate, rate, 1, dtype="float32", quality=_QUALITY
            )

    def push(self, frames: NDArray[np.floating]) -> Samples:
        """The next frames, (S, channels) or (S,), any number; gives the samples they settle, (S,).

        Raises:
            DataError: a sample is NaN or infinite.
        """
        mono = _averaged(frames, self._name, self._heard)
        self._heard += len(mono)
        if self._stream is not None:
            mono = self._stream.resample_chunk(mono)
        return np.clip(mono, -1.0, 1.0)

    def flush(self) -> Samples:
        """The stream is over: gives the samples that were still in the filter, (S,)."""
        if self._stream is None:
            return np.empty(0, np.float32)
        return np.clip(self._stream.resample_chunk(np.empty(0, np.float32), last=True), -1.0, 1.0)


def fit(samples: Samples, length_samples: int) -> Samples:
    """Make a clip exactly `length_samples` long: shape (length_samples,).

    A shorter clip gets silence at its end; of a longer one the stretch with the most energy stays.
    """
    surplus = len(samples) - length_samples
    if surplus <= 0:
        return np.pad(samples, (0, -surplus))
    start = loudest_start(samples, length_samples)
    return samples[start : start + length_samples]


def loudest_start(samples: Samples | NDArray[np.int16], length_samples: int) -> int:
    """Where the `length_samples` long stretch with the most energy begins."""
    energy = np.concatenate(([0.0], np.cumsum(samples.astype(np.float64) ** 2)))
    return int(np.argmax(energy[length_samples:] - energy[:-length_samples]))


def _averaged(frames: NDArray[np.floating], name: str, first: int = 0) -> Samples:
    """The mean of the channels, all of it finite; `first` is where in a stream the frames begin."""
    with np.errstate(over="ignore", invalid="ignore"):  # it is told in words below
        mono = frames if frames.ndim == 1 else frames.mean(axis=1)
    finite = np.isfinite(mono)
    if not finite.all():
        place = int(np.argmin(finite))
        raise DataError(f"{name}: sample {first + place} is {mono[place]}; samples must be finite")
    return mono.astype(np.float32, copy=False)


def _opened(path: Path) -> soundfile.SoundFile:
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a directory; an audio file is needed")
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size_bytes == 0:
        raise DataError(f"{path}: empty file (0 bytes); an audio file is needed")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError) as error:
        raise DataError(f"{path}: not a readable audio file: {_reason(error)}") from error


def _check_whole(path: Path) -> None:
    """Raise DataError for a WAV or AIFF shorter than its header says: libsndfile reads on silently.

    A program that writes to a pipe cannot know the length and says 2 GB or more; others count the
    8 bytes of the header twice.
    """
    with Path(path).open("rb") as file:
        header = file.read(8)
        there = file.seek(0, os.SEEK_END)
    order = _CHUNK_ORDERS.get(header[:4])
    told = int.from_bytes(header[4:], order) if order else 0
    if there < told < 0x7FFF0000:
        raise DataError(f"{path}: truncated: {there} of {told + 8} bytes are there")


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return text.strip().rstrip(".").removeprefix("Error : ")
