"""What comes down a pipe: raw PCM as the options say, or a WAV file as its own header says."""

import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from speechgru.audio.file_kinds import is_text, kind_of_file
from speechgru.audio.files import MAX_CHANNELS
from speechgru.audio.pcm import PcmDecoder, SampleFormat
from speechgru.audio.pcm_watch import PcmWatch, PipeFormat
from speechgru.audio.samples import MAX_RATE, MIN_RATE, Samples
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
_RIFF = (b"RIFF", b"RF64", b"BW64")
#: What may follow the samples and is no sound.
_CHUNKS = frozenset(
    (
        *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"inst", b"fact", b"PEAK", b"JUNK"),
        *(b"junk", b"PAD ", b"FLLR", b"iXML", b"_PMX", b"acid", b"plst", b"note", b"labl", b"afsp"),
        *(b"axml", b"chna", b"cart", b"levl", b"umid", b"minf", b"elm1", b"regn", b"LGWV", b"strc"),
    )
)


class ByteStream(Protocol):
    """Bytes from a pipe, such as sys.stdin.buffer or io.BytesIO."""

    def read1(self, size: int = -1, /) -> bytes:
        """Bytes that are available, at least one; none at the end."""
        ...


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
        if start[:4] in _RIFF:
            yield from self._wav_files()
            return
        if (kind := kind_of_file(start)) is not None:
            raise DataError(
                f"{self._name}: is {kind}, not PCM; decode it first: ffmpeg -i FILE -f s16le "
                "-ar 16000 -ac 1 - | speechgru listen --input -"
            )
        if is_text(start):
            raise self._wrong("is text; a WAV file or PCM is needed")
        given = self._given
        found = PipeFormat(
            given.rate or 16_000, given.sample_format or "s16le", given.channels or 1
        )
        if start and given == PipeFormat():
            self._tell(
                f"{self._name}: has no header and is taken for {found}; --format, --rate and "
                "--channels say what else it is"
            )
        yield from self._decoded(found, None)

    def _wav_files(self) -> Iterator[tuple[Samples, int]]:
        """Frames of one WAV file after another, as `cat` writes them."""
        while True:
            found, size = self._wav_header()
            if size is None and self._bytes.peek(16)[:4] in _RIFF:
                continue  # an empty file
            yield from self._decoded(found, size)
            if size is None or not self._finds_another(size):
                return

    def _finds_another(self, size: int) -> bool:
        """Skip what follows the `size` bytes of a file's samples; whether that is a WAV file."""
        if size % 2 and self._bytes.peek(16)[:4] not in _RIFF:  # Python's wave writes no pad byte
            self._bytes.skip(1)
        for _ in range(_MAX_CHUNKS):
            start = self._bytes.peek(16)
            if start[:4] in _RIFF:
                return True
            if start[:4] not in _CHUNKS or len(start) < 8:
                break
            chunk_size = int.from_bytes(self._bytes.read(8)[4:], "little")
            self._bytes.skip(chunk_size + chunk_size % 2)
        if self._bytes.peek(1):
            self._tell(
                f"{self._name}: goes on after the {size:,} bytes of sound that its header "
                "declares; the rest is not heard"
            )
            while self._bytes.read1(_PIPE_BYTES):
                pass  # or whoever writes it would fail
        return False

    def _decoded(self, found: PipeFormat, size: int | None) -> Iterator[tuple[Samples, int]]:
        """Frames until the pipe ends, or until `size` bytes."""
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


class _Buffered:
    """A byte stream whose first bytes can be looked at before they are read."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = b""

    def peek(self, size: int) -> bytes:
        """Up to `size` of the next bytes, of 16 or more fewer than 16 only at the end.

        They are still read later. A pipe that writes little at a time is not waited for: 16 bytes
        tell what it is.
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
