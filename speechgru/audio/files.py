"""Recordings: files of many formats to mono float32 at the model's rate."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import soundfile

from speechgru.audio.containers import missing_bytes, open_unfinished_wav
from speechgru.audio.mp3 import open_uncounted_mp3
from speechgru.audio.native_messages import quiet_native_code
from speechgru.audio.pyav import DEMUXERS, PyavFile, demuxer_of, is_installed
from speechgru.audio.samples import (
    MAX_RATE,
    MIN_RATE,
    SAMPLE_RATE,
    Samples,
    StreamResampler,
    check_channel,
    to_mono,
)
from speechgru.errors import DataError

#: What libsndfile reads.
_WAV_SUFFIXES = ".wav .wave .bwf .rf64 .w64"
_OTHER_SUFFIXES = ".flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .sph .nist"
SOUNDFILE_SUFFIXES = frozenset(f"{_WAV_SUFFIXES} {_OTHER_SUFFIXES}".split())

#: A header that declares more is wrong, or made to exhaust the memory.
MAX_CHANNELS = 64
MAX_HOURS_VARIABLE = "SPEECHGRU_MAX_HOURS"
#: Of a recording that is read as a whole. Streams are not limited.
_MAX_HOURS = 1.0

#: The average of all channels loses sound where it is this much quieter than the loudest one.
CANCELLED_DB = 9.0

#: Float samples beyond this are integers that were not scaled. Slightly beyond 1 they are loud.
LARGEST_FLOAT = 8.0
_FLOATS = ("FLOAT", "DOUBLE")

_BLOCK_S = 30.0
#: Of all channels, in a block.
_MAX_BLOCK_SAMPLES = 8_000_000
#: libsndfile's frame count where a header does not tell.
_UNKNOWN_FRAMES = 2**62
#: Of libsndfile and Python's wrapper, for files that are damaged or none.
_ERRORS = (
    *(soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError),
    *(AssertionError, MemoryError, OverflowError),
)
#: What libsndfile says of damaged files that do exist.
_UNTRUE = ("File does not exist", "Unspecified internal error", "System error")


class TooLongError(DataError):
    """A recording is too long to be read as a whole."""


class NotScaledError(DataError):
    """A recording of float samples holds integers, far beyond -1 to 1."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; nothing is decoded."""

    rate: int
    channels: int
    frames: int
    subtype: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate


def audio_suffixes() -> frozenset[str]:
    """Suffixes of the files that are read here, some only where PyAV is installed."""
    return SOUNDFILE_SUFFIXES.union(DEMUXERS) if is_installed() else SOUNDFILE_SUFFIXES


def probe(path: Path) -> AudioInfo:
    """Read a recording's header.

    Raises:
        DataError: the file is missing, empty, or not an audio file.
    """
    with _open(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.subtype)


def read(path: Path, rate: int = SAMPLE_RATE, channel: int | None = None) -> Samples:
    """Decode a recording to mono float32 in [-1, 1] at `rate` hertz, shape (S,).

    Channels are averaged, unless one is chosen, counted from 1; other rates are resampled (soxr,
    high quality); float samples slightly beyond full scale are clipped.

    Raises:
        DataError: missing, empty, truncated, too long or not an audio file; samples that are not
            finite, or floats that are not scaled; no such channel.
        UsageError: a channel below 1.
    """
    check_channel(channel)
    decoded = limited_blocks(path, _BLOCK_S)
    first, native_rate = next(decoded)
    second = next(decoded, None)
    if second is None:
        return to_mono(first, native_rate, rate, str(path), channel)
    resampler = StreamResampler(native_rate, rate, str(path), channel)
    pieces = [resampler.push(frames) for frames, _ in chain([(first, rate), second], decoded)]
    return np.concatenate([*pieces, resampler.flush()])


def blocks(path: Path, block_s: float = 1.0) -> Iterator[tuple[Samples, int]]:
    """Decode a recording piece by piece: float32 of (S, channels), and the rate in hertz.

    Raises:
        DataError: missing, empty, truncated or not an audio file; floats that are not scaled.
    """
    with _open(path) as file:
        declared, count, has_floats = file.frames, 0, file.subtype in _FLOATS
        size = max(1, min(round(block_s * file.samplerate), _MAX_BLOCK_SAMPLES // file.channels))
        while True:
            with _reported(path, "cannot be decoded"), quiet_native_code(keep_python=True):
                frames = file.read(size, dtype="float32", always_2d=True)
            if len(frames) == 0:
                break
            count += len(frames)
            if has_floats:
                _check_scale(path, frames)
            yield frames, file.samplerate
        is_estimate = isinstance(file, PyavFile)
    if count == 0:
        raise DataError(f"{path}: 0 samples; a recording needs at least one")
    if not is_estimate and count < declared < _UNKNOWN_FRAMES:
        raise DataError(f"{path}: truncated: it has {count} of {declared} samples")


def lost_in_average(path: Path) -> tuple[float, int]:
    """How much quieter the average of a recording's channels is than its loudest one, from 1.

    Decibels, and that channel, by its first minute; (0, 1) for one channel. Opposite phases cancel
    each other.

    Raises:
        DataError: missing, empty, truncated or not an audio file.
    """
    if probe(path).channels == 1:
        return 0.0, 1
    power, mixed_power = np.zeros(1), 0.0
    for frames, _ in islice(blocks(path), 60):
        power = power + np.square(frames, dtype=np.float64).sum(axis=0)
        mixed_power += float(np.square(frames.mean(axis=1), dtype=np.float64).sum())
    loss_db = 10 * np.log10(max(power.max(), 1e-20) / max(mixed_power, 1e-20))
    return float(loss_db), int(power.argmax()) + 1


def max_recording_s() -> float:
    """Seconds of the longest recording that is read as a whole: `$SPEECHGRU_MAX_HOURS`, or 1 h."""
    text = os.environ.get(MAX_HOURS_VARIABLE, "")
    try:
        hours = float(text or _MAX_HOURS)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 1e6:
        raise DataError(f"{MAX_HOURS_VARIABLE}={text}: a number of hours above 0 is needed")
    return hours * 3600


def limited_blocks(path: Path, block_s: float = 1.0) -> Iterator[tuple[Samples, int]]:
    """The `blocks` of a recording that is not too long for the memory.

    Raises:
        DataError: as `blocks`; the recording is too long to be read as a whole.
    """
    max_s, duration_s = max_recording_s(), 0.0
    for frames, rate in blocks(path, block_s):
        duration_s += len(frames) / rate
        if duration_s > max_s:
            raise TooLongError(
                f"{path}: lasts more than {max_s / 3600:g} h; {MAX_HOURS_VARIABLE} sets the limit "
                "for recordings that are read as a whole"
            )
        yield frames, rate


def _check_scale(path: Path, frames: Samples) -> None:
    peak = np.abs(frames).max(where=np.isfinite(frames), initial=0.0)
    if peak > LARGEST_FLOAT:
        raise NotScaledError(
            f"{path}: samples reach {peak:,.0f}, but float samples lie in -1 to 1; divide them by "
            "32,768 if they were 16-bit integers"
        )


def _open(path: Path) -> soundfile.SoundFile | PyavFile:
    """Open a recording, and check what its header says."""
    path = Path(path)
    _check_file(path)
    try:
        demuxer = demuxer_of(path)
        if demuxer is not None:
            file = PyavFile(path, demuxer)
        else:
            with _reported(path, "not a readable audio file"), quiet_native_code(keep_python=True):
                counted = open_unfinished_wav(path) or open_uncounted_mp3(path)
                file = soundfile.SoundFile(counted or _name(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    problem = ""
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        problem = f"{file.samplerate} Hz; {MIN_RATE:,} to {MAX_RATE:,} Hz can be read"
    elif not 1 <= file.channels <= MAX_CHANNELS:
        problem = f"{file.channels} channels; up to {MAX_CHANNELS} can be read"
    elif (sizes := missing_bytes(path)) is not None:
        problem = "truncated: it has {} of {} bytes".format(*sizes)
    if problem:
        with file:
            raise DataError(f"{path}: {problem}")
    return file


def _check_file(path: Path) -> None:
    """Raise DataError for what cannot be a recording."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if os.fspath(path) == "-":
            raise DataError("-: an audio file is needed, or `listen --input -`") from error
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: is a directory; an audio file is needed")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"{path}: is a pipe or a device; an audio file is needed, or `listen --input -`"
        )
    if status.st_size == 0:
        raise DataError(f"{path}: empty file (0 bytes); an audio file is needed")


def _name(path: Path) -> str | bytes:
    """A name as libsndfile takes it; on Unix also one that is not UTF-8."""
    return os.fspath(path) if sys.platform == "win32" else os.fsencode(path)


@contextmanager
def _reported(path: Path, problem: str) -> Iterator[None]:
    """Turn the errors of libsndfile into ours."""
    try:
        yield
    except _ERRORS as error:
        text = getattr(error, "error_string", None) or str(error) or type(error).__name__
        reason = " ".join(text.split()).rstrip(".").removeprefix("Error : ")
        if any(reason.startswith(untrue) for untrue in _UNTRUE):
            reason = "it is damaged"
        raise DataError(f"{path}: {problem}: {reason}") from error
