"""What comes down a pipe: raw PCM as the options say, or a WAV file as its own header says."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import MAX_CHANNELS
from speechgru.audio.levels import SILENT_DB, clipped_frames, peak_db, rms_db
from speechgru.audio.pcm import PcmDecoder, SampleFormat
from speechgru.audio.samples import MAX_RATE, MIN_RATE, Samples, check_rate
from speechgru.errors import DataError, UsageError

Tell = Callable[[str], None]

_PIPE_BYTES = 65_536
#: Enough to tell one format from another.
_SNIFFED_BYTES = 4_096
#: A program that does not know the length yet declares at least this.
_UNKNOWN_BYTES = 0x7FFF0000
_MAX_FMT_BYTES, _MAX_CHUNKS = 1_024, 1_000
_WAV_FORMATS: dict[tuple[int, int], SampleFormat] = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
}
_EXTENSIBLE = 0xFFFE
#: First bytes of files that have to be decoded before they come down a pipe.
_MAGIC = {
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"FORM": "an AIFF file",
    b".snd": "an AU file",
    b"caff": "a CAF file",
    b"riff": "a W64 file",
    b"RIFX": "a big-endian WAV file",
    b"\x1aE\xdf\xa3": "a WebM or Matroska file",
    b"\x1f\x8b\x08": "a gzip file",
    b"PK\x03\x04": "a zip file",
    b"NIST_1A\n": "a NIST SPHERE file",
    b"Creative Voice File": "a VOC file",
    b"#!AMR": "an AMR file",
    b"\x30\x26\xb2\x75": "a WMA file",
}
_TEXT = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)))


class ByteStream(Protocol):
    """Bytes from a pipe, such as sys.stdin.buffer or io.BytesIO."""

    def read1(self, size: int = -1, /) -> bytes:
        """Bytes that are available, at least one; none at the end."""
        ...


@dataclass(frozen=True)
class PipeFormat:
    """What raw PCM is, by the options; None where an option was not given.

    Raises:
        UsageError: an impossible rate or number of channels.
    """

    rate: int | None = None
    sample_format: SampleFormat | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_rate(self.rate)
        if self.channels is not None and not 1 <= self.channels <= MAX_CHANNELS:
            raise UsageError(f"--channels {self.channels}: 1 to {MAX_CHANNELS} are needed")

    def __str__(self) -> str:
        return (
            f"{self.sample_format or 's16le'}, {self.rate or 16_000} Hz, "
            f"channels: {self.channels or 1}"
        )


class PipedAudio:
    """Frames from a pipe. Its first bytes are read at the first frames, not before.

    Args:
        stream: where the bytes come from.
        given: what the options say; a WAV header must agree with it.
        tell: receives sentences about what seems to be wrong.
        name: what messages call the pipe.
        is_averaged: whether the frames' average is used, which may cancel them.
    """

    def __init__(
        self,
        stream: ByteStream,
        given: PipeFormat,
        tell: Tell,
        name: str = "stdin",
        is_averaged: bool = False,
    ) -> None:
        self._bytes = _Buffered(stream)
        self._given, self._tell, self._name = given, tell, name
        self._is_averaged = is_averaged

    def frames(self) -> Iterator[tuple[Samples, int]]:
        """Float32 of (S, channels), and the rate in hertz; floats beyond full scale as they are.

        Raises:
            DataError: another kind of file than WAV, or a WAV file that cannot be read as a stream.
            UsageError: options that contradict a WAV file's header.
        """
        start = self._bytes.peek(_SNIFFED_BYTES)
        if start[:4] in (b"RIFF", b"RF64", b"BW64"):
            found, size = self._wav_header()
        elif (kind := _kind_of_file(start)) is not None:
            raise DataError(
                f"{self._name}: is {kind}, not PCM; decode it first: ffmpeg -i FILE -f s16le "
                "-ar 16000 -ac 1 - | speechgru listen --input -"
            )
        elif len(start) >= 16 and _TEXT.issuperset(start):
            raise self._wrong("is text; a WAV file or PCM is needed")
        else:
            given = self._given
            found = PipeFormat(
                given.rate or 16_000, given.sample_format or "s16le", given.channels or 1
            )
            size = None
            if start and given == PipeFormat():
                self._tell(
                    f"{self._name}: has no header and is taken for {found}; --format, --rate and "
                    "--channels say what else it is"
                )
        yield from self._decoded(found, size)

    def _decoded(self, found: PipeFormat, size: int | None) -> Iterator[tuple[Samples, int]]:
        """Frames until the pipe ends, or until `size` bytes; what follows them is no sound."""
        assert found.rate is not None
        decoder = PcmDecoder(found.sample_format or "s16le", found.channels or 1)
        watch = PcmWatch(found, self._is_averaged)
        left = size
        while left is None or left > 0:
            content = self._bytes.read1(_PIPE_BYTES if left is None else min(left, _PIPE_BYTES))
            if not content:
                break
            left = None if left is None else left - len(content)
            frames = decoder.push(content)
            for sentence in watch.push(frames):
                self._tell(f"{self._name}: {sentence}")
            yield frames, found.rate
        if left:
            self._tell(f"{self._name}: ends early: its header declares {left:,} bytes more")
        elif decoder.rest:
            self._tell(
                f"{self._name}: ends within a sample; its {len(decoder.rest)} of "
                f"{decoder.frame_bytes} bytes are skipped"
            )
        while left == 0 and self._bytes.read1(_PIPE_BYTES):
            pass  # or whoever writes the rest would fail

    def _wav_header(self) -> tuple[PipeFormat, int | None]:
        """What a WAV file's header says, up to its samples: their format and bytes, if known."""
        form = self._bytes.read(12)
        if len(form) < 12:
            raise self._wrong(f"ends within the header of a WAV file, after {len(form)} bytes")
        if form[8:12] != b"WAVE":
            raise self._wrong(f"is a RIFF file of {form[8:12]!r}, not of audio")
        found: PipeFormat | None = None
        long_size: int | None = None
        for _ in range(_MAX_CHUNKS):
            header = self._bytes.read(8)
            if len(header) < 8:
                break
            name, size = header[:4], int.from_bytes(header[4:], "little")
            if name == b"data":
                if found is None:
                    raise self._wrong("is a WAV file whose header has no format")
                if size == 0xFFFFFFFF and long_size is not None:
                    size = long_size
                # What is written into a pipe has no length, or 0.
                is_known = 0 < size < _UNKNOWN_BYTES or size == long_size
                return found, size if is_known else None
            left = size + size % 2
            if name == b"fmt ":
                found = self._wav_format(self._bytes.read(min(size, _MAX_FMT_BYTES)))
                left -= min(size, _MAX_FMT_BYTES)
            elif name == b"ds64" and size >= 16:
                long_size = int.from_bytes(self._bytes.read(16)[8:], "little")
                left -= 16
            self._bytes.skip(left)
        raise self._wrong("is a WAV file without samples")

    def _wav_format(self, content: bytes) -> PipeFormat:
        if len(content) < 16:
            raise self._wrong("is a WAV file whose header is cut off")
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content)
        if tag == _EXTENSIBLE and len(content) >= 26:
            tag = int.from_bytes(content[24:26], "little")
        sample_format = _WAV_FORMATS.get((tag, bits))
        if sample_format is None:
            raise self._wrong(
                f"is a WAV file of {bits}-bit samples of type {tag}; convert it to 16-bit PCM first"
            )
        if not MIN_RATE <= rate <= MAX_RATE or not 1 <= channels <= MAX_CHANNELS:
            raise self._wrong(
                f"is a WAV file of {rate} Hz and {channels} channels; {MIN_RATE:,} to "
                f"{MAX_RATE:,} Hz and up to {MAX_CHANNELS} channels can be read"
            )
        given = self._given
        for option, wanted, has in (
            ("--rate", given.rate, rate),
            ("--format", given.sample_format, sample_format),
            ("--channels", given.channels, channels),
        ):
            if wanted is not None and wanted != has:
                raise UsageError(
                    f"{option} {wanted}: {self._name} is a WAV file whose header says {has}; "
                    f"leave {option} out"
                )
        return PipeFormat(rate, sample_format, channels)

    def _wrong(self, what: str) -> DataError:
        return DataError(f"{self._name}: {what}")


class PcmWatch:
    """Reports, once each, what tells that PCM is not what the options say.

    Silence for long; channels that cancel each other; samples at full scale or, of floats, far
    beyond; loud white noise, which is what samples of another format or byte order sound like.
    Noise by the energy of the samples' differences: for white noise twice the variance, for
    speech at 8 kHz and more a small part.
    """

    WINDOW_S, SILENT_S, NOISY_WINDOWS = 0.1, 5.0, 3
    NOISE_DB, NOISE_RATIO = -20.0, 0.8
    CLIPPED_SHARE, BEYOND, QUIET_DB = 0.02, 1.5, -50.0

    def __init__(self, pcm: PipeFormat, is_averaged: bool = False) -> None:
        self._pcm, self._is_averaged = pcm, is_averaged
        self._rate = pcm.rate or 16_000
        self._window = max(1, round(self.WINDOW_S * self._rate))
        self._waiting: list[NDArray[np.floating]] = []
        self._frames = self._silent = self._noisy = 0
        self._reported: set[str] = set()

    def push(self, frames: NDArray[np.floating]) -> list[str]:
        """The next frames, (S, channels); returns new sentences."""
        self._waiting.append(frames)
        self._frames += len(frames)
        if self._frames < self._window:
            return []
        found = np.concatenate(self._waiting)
        self._waiting, self._frames = [], 0
        windows = np.array_split(found, max(1, len(found) // self._window))
        return [sentence for window in windows for sentence in self._judge(window)]

    def _judge(self, window: NDArray[np.floating]) -> list[str]:
        finite = np.where(np.isfinite(window), window, 0.0)
        peak = float(np.abs(finite).max(initial=0.0))
        sentences = []
        self._silent = self._silent + len(window) if peak_db(finite) < SILENT_DB else 0
        if self._silent >= self.SILENT_S * self._rate:
            sentences += self._once(
                "silent", f"has been silent for {self.SILENT_S:g} s: is anything recorded?"
            )
        if peak > self.BEYOND:
            sentences += self._once(
                "beyond",
                f"has samples of up to {peak:,.0f}, which are clipped; full scale is 1: is the "
                f"--format right ({self._pcm}), or do the floats have the values of integers?",
            )
        elif clipped_frames(finite) >= self.CLIPPED_SHARE * len(finite) and peak <= 1.0:
            sentences += self._once("clipping", "clips: lower its level where it is recorded")
        if self._is_averaged and self._cancels(finite):
            sentences += self._once(
                "cancels",
                "its channels cancel each other: their average is far quieter than the loudest "
                "one; --channel N uses one of them",
            )
        self._noisy = self._noisy + 1 if self._is_noise(finite) else 0
        if self._noisy >= self.NOISY_WINDOWS:
            sentences += self._once(
                "noise",
                f"sounds like noise: are --rate, --format and --channels right ({self._pcm})?",
            )
        return sentences

    def _cancels(self, window: NDArray[np.floating]) -> bool:
        """Whether the average of the channels is 9 dB quieter than one that is not silent."""
        power = np.square(window).mean(axis=0).max()
        mixed = np.square(window.mean(axis=1)).mean()
        return bool(rms_db(window) > self.QUIET_DB and power >= 10**0.9 * mixed)

    def _is_noise(self, window: NDArray[np.floating]) -> bool:
        clipped = np.clip(window, -1.0, 1.0)
        if len(clipped) < 2 or rms_db(clipped) < self.NOISE_DB:
            return False
        variance = clipped.var(axis=0)
        differences = np.square(np.diff(clipped, axis=0)).mean(axis=0)
        return bool((differences > 2 * self.NOISE_RATIO * variance).all())

    def _once(self, key: str, sentence: str) -> list[str]:
        if key in self._reported:
            return []
        self._reported.add(key)
        return [sentence]


class _Buffered:
    """A byte stream whose first bytes can be looked at before they are read."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = b""

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end; they are still read later.

        A pipe that writes little at a time is not waited for: 16 bytes tell what it is.
        """
        while len(self._buffer) < min(size, 16):
            content = self._stream.read1(size)
            if not content:
                break
            self._buffer += content
        return self._buffer[:size]

    def read1(self, size: int) -> bytes:
        """Some of the next bytes; none at the end."""
        if not self._buffer:
            return self._stream.read1(size)
        content, self._buffer = self._buffer[:size], self._buffer[size:]
        return content

    def read(self, size: int) -> bytes:
        """All of the next bytes, fewer only at the end."""
        content = b""
        while len(content) < size and (more := self.read1(size - len(content))):
            content += more
        return content

    def skip(self, size: int) -> None:
        """Leave bytes out."""
        while size > 0 and (content := self.read1(min(size, _PIPE_BYTES))):
            size -= len(content)


def _kind_of_file(start: bytes) -> str | None:
    """What a file is by its first bytes; None where they may be PCM."""
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[4:8] == b"ftyp":
        return "an MP4 file"
    if _has_mpeg_frames(start):
        return "an MP3 or AAC file"
    return None


def _has_mpeg_frames(start: bytes) -> bool:
    """Whether MPEG audio starts here: a frame's header, and another one where the frame ends."""
    size = _mpeg_frame_bytes(start)
    return size is not None and _mpeg_frame_bytes(start[size:]) is not None


def _mpeg_frame_bytes(content: bytes) -> int | None:
    """The size of a frame of MP3, or of AAC in ADTS; None where there is none.

    ISO/IEC 11172-3 (layer III) and 14496-3 (ADTS).
    """
    if len(content) < 6 or content[0] != 0xFF or content[1] & 0xE0 != 0xE0:
        return None
    version, layer = content[1] >> 3 & 3, content[1] >> 1 & 3
    if layer == 0:  # ADTS
        size = (content[3] & 3) << 11 | content[4] << 3 | content[5] >> 5
        return size if content[1] & 0xF0 == 0xF0 and size >= 7 else None
    bitrate, rate, padding = content[2] >> 4, content[2] >> 2 & 3, content[2] >> 1 & 1
    if layer != 1 or version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    is_mpeg1 = version == 3
    kbps = (_KBPS_1 if is_mpeg1 else _KBPS_2)[bitrate - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if is_mpeg1 else 72) * kbps * 1_000 // hertz + padding


_KBPS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
