"""Formats that PyAV (FFmpeg's libraries) reads and libsndfile does not: m4a, webm and others."""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from speechgru.audio.samples import Samples
from speechgru.errors import DataError

#: Suffix -> FFmpeg's demuxer. It is never left to guess, as some formats refer to other files.
DEMUXERS = {
    **dict.fromkeys((".m4a", ".mp4", ".m4b", ".mov", ".3gp", ".3ga", ".3g2"), "mov"),
    **dict.fromkeys((".webm", ".mka", ".mkv", ".weba"), "matroska"),
    **dict.fromkeys((".wma", ".asf"), "asf"),
    **{".aac": "aac", ".amr": "amr", ".ac3": "ac3", ".mp2": "mp3", ".ape": "ape", ".wv": "wv"},
}
#: How a file of another name begins: position, bytes, demuxer.
_SIGNATURES = (
    (4, b"ftyp", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"#!AMR", "amr"),
)
#: WAV, FLAC, Ogg, AIFF and AU under another name.
_LIBSNDFILE_SIGNATURES = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd")


@cache
def is_installed() -> bool:
    """Whether PyAV is."""
    return find_spec("av") is not None


#: Of the eight bytes in a FLAC's header that end with the number of its samples.
_FLAC_LENGTH_BITS = 36


def demuxer_of(path: Path) -> str | None:
    """FFmpeg's demuxer for a file, by its first bytes or its suffix; None for other formats."""
    with path.open("rb") as file:
        start = file.read(26)
    if start[:4] == b"fLaC" and not int.from_bytes(start[18:26]) % 2**_FLAC_LENGTH_BITS:
        return "flac"  # as from a pipe, of unknown length: libsndfile fails at its end
    for position, signature, demuxer in _SIGNATURES:
        if start[position:].startswith(signature):
            return demuxer
    if start.startswith(_LIBSNDFILE_SIGNATURES):
        return None
    return DEMUXERS.get(path.suffix.lower())


class PyavFile:
    """A recording opened with PyAV; the part of soundfile.SoundFile's interface that we use.

    Raises:
        DataError: PyAV is not installed, or the file has no sound that it can decode.
    """

    def __init__(self, path: Path, demuxer: str) -> None:
        if not is_installed():
            convert = ["ffmpeg", "-i", path.name, f"{path.stem}.wav"]
            which = "FLAC of unknown length" if demuxer == "flac" else f"{path.suffix} files"
            raise DataError(
                f"{path}: {which} need PyAV: pip install 'speechgru[av]'; "
                f"or convert them: {shlex.join(convert)}"
            )
        import av

        self._errors = (av.FFmpegError, ValueError, OSError, RuntimeError, MemoryError)
        self._path, self._demuxer, self._file = path, demuxer, path.open("rb")
        try:
            self._container: Any = av.open(self._file, format=demuxer, **_metadata_options())
            if not self._container.streams.audio:
                raise DataError(f"{path}: has no sound")
            self._stream: Any = self._container.streams.audio[0]
            self.samplerate, self.channels = self._stream.rate, self._stream.channels
            self.subtype = self._stream.codec_context.name.upper()
        except self._errors as error:
            self._file.close()
            raise DataError(f"{path}: not a readable audio file: {_reason(error)}") from error
        except DataError:
            self._file.close()
            raise
        self.frames = self._estimated_frames()
        self._decoded = self._decode(av.AudioResampler(format="fltp"))
        self._rest = np.empty((0, self.channels), np.float32)

    def read(self, frames: int, **_options: Any) -> Samples:
        """The next frames, (S, channels), fewer only at the end."""
        blocks, count = [self._rest], len(self._rest)
        while count < frames:
            block = next(self._decoded, None)
            if block is None:
                break
            blocks.append(block)
            count += len(block)
        joined = np.concatenate(blocks)
        self._rest = joined[frames:]
        return joined[:frames]

    def __enter__(self) -> "PyavFile":
        return self

    def __exit__(self, *_error: object) -> None:
        self._container.close()
        self._file.close()

    def _estimated_frames(self) -> int:
        """By the stream's or the container's duration; where none is given, by the packets'."""
        if self._stream.duration and self._stream.time_base:
            seconds = float(self._stream.duration * self._stream.time_base)
        else:
            seconds = (self._container.duration or 0) / 1e6 or self._packets_s()
        return max(0, round(seconds * self.samplerate))

    def _packets_s(self) -> float:
        """The sum of the packets' durations, in seconds; 0 where they have none."""
        import av

        with suppress(*self._errors), av.open(str(self._path), format=self._demuxer) as container:
            stream: Any = container.streams.audio[0]
            return float(sum(p.duration or 0 for p in container.demux(stream)) * stream.time_base)
        return 0.0

    def _decode(self, to_floats: Any) -> Iterator[Samples]:
        """Frames as they are decoded, (S, channels) each."""
        try:
            for frame in self._container.decode(self._stream):
                for converted in to_floats.resample(frame):
                    block = converted.to_ndarray().T.astype(np.float32, copy=False)
                    if block.shape[1] != self.channels or converted.rate != self.samplerate:
                        raise DataError(f"{self._path}: changes its rate or channels")
                    yield block
        except self._errors as error:
            raise DataError(f"{self._path}: cannot be decoded: {_reason(error)}") from error


def _metadata_options() -> dict[str, Any]:
    """A title that is not UTF-8 is no reason to refuse the sound; PyAV 19 needs no option."""
    import av

    return {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
