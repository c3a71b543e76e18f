"""What the headers of audio files say about their length, which libsndfile does not verify."""

import io
import math
import os
from pathlib import Path
from typing import IO, Literal

#: Programs that write into a pipe cannot know the length: they declare 2 GB or more.
_UNKNOWN_BYTES = 0x7FFF0000
_W64_RIFF = bytes.fromhex("72696666 2e91cf11 a5d628db 04c10000")
_MAX_CHUNKS = 10_000
#: Bytes of a page's header in an Ogg file, and flags of the first and the last page of a stream.
_OGG_HEADER, _OGG_FIRST, _OGG_LAST = 27, 2, 4
#: Fewer bytes than this after the samples are no sound; up to a border there may be zeros.
_LEAST_SOUND, _BORDER = 2_000, 512
#: How what is appended to a file begins: tags, pictures, archives, text, another file.
_TAGS = (
    *(b"ID3", b"TAG", b"APETAGEX", b"RIFF", b"OggS", b"fLaC", b"\xff\xd8\xff", b"\x89PNG"),
    *(b"\x1f\x8b", b"PK\x03\x04", b"\xef\xbb\xbf"),
)
_NIST_COUNTS = (b"sample_count", b"sample_n_bytes", b"channel_count")

ByteOrder = Literal["little", "big"]


def missing_bytes(path: Path) -> tuple[int, int] | None:
    """Bytes that are there, and that the header declares, where there are fewer; else None.

    A tolerance of 8 bytes allows for writers that count the RIFF header twice.
    """
    with path.open("rb") as file:
        present = file.seek(0, os.SEEK_END)
        declared = _declared_bytes(file)
    if declared is None or present >= declared - 8:
        return None
    return present, declared


def incomplete_ogg(path: Path) -> str:
    """Why not all of an Ogg file (Opus, Vorbis, FLAC) is read; "" if it is, and for other files.

    Source: S. Pfeiffer, "The Ogg encapsulation format version 0", RFC 3533 (2003), section 6.
    """
    with path.open("rb") as file:
        present = file.seek(0, os.SEEK_END)
        position, ended = 0, False
        while position < present:
            file.seek(position)
            header = file.read(_OGG_HEADER)
            if len(header) < _OGG_HEADER or header[:4] != b"OggS":
                break
            if ended and header[5] & _OGG_FIRST:
                return "holds several recordings one after another, of which the first is read"
            ended |= bool(header[5] & _OGG_LAST)
            position += _OGG_HEADER + header[26] + sum(file.read(header[26]))
    if position > present:
        return "ends early, within a page"
    return "may end early: its last page is missing" if position and not ended else ""


def open_unfinished_wav(path: Path) -> IO[bytes] | None:
    """A WAV whose writer was killed before it stored the length, as a file that has one.

    Such a file declares 0 bytes of samples although more follow than the header accounts for, or as
    many as there were when its header was last written, and then goes on without another chunk.
    None for all other files.
    """
    with path.open("rb") as file:
        present = file.seek(0, os.SEEK_END)
        file.seek(0)
        form, riff_bytes = file.read(4), _integer(file, 4, "little")
        if form not in (b"RIFF", b"RF64", b"BW64") or file.read(4) != b"WAVE":
            return None
        is_closed = form == b"RIFF" and riff_bytes + 8 >= present and riff_bytes < _UNKNOWN_BYTES
        samples = _find_chunk(file, 12, b"data", present)
        if samples is None or samples >= present:
            return None
        file.seek(samples - 4)
        declared = _integer(file, 4, "little")
        if form != b"RIFF":
            declared = _rf64_samples(file, present)
        goes_on = form == b"RIFF" and _goes_on(file, samples + declared, present)
    if (declared or is_closed) and not (declared and goes_on):
        return None
    to_the_end = b"\xff\xff\xff\xff"
    patches = {0: b"RIFF", 4: to_the_end, samples - 4: to_the_end}
    return io.BufferedReader(_Patched(path, patches))


def _goes_on(file: IO[bytes], position: int, present: int) -> bool:
    """Whether sound seems to go on at a position, where only chunks, a tag or a fill may follow."""
    if present - position < _LEAST_SOUND:
        return False
    file.seek(position)
    start = file.read(_BORDER)
    zeros = len(start) - len(start.lstrip(b"\0"))
    if start.startswith(_TAGS) or start[zeros:].startswith(_TAGS):
        return False
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start[:64]):  # text
        return False
    if any(_are_chunks(file, position + shift, present) for shift in {0, 1, zeros}):
        return False
    file.seek(position)
    fill = file.read(1)
    while content := file.read(1 << 16):
        if content.strip(fill):
            return True
    return False


def _are_chunks(file: IO[bytes], position: int, present: int) -> bool:
    """Whether chunks follow that end where the file does, or one with a name in ASCII that fits."""
    file.seek(position)
    is_named = all(32 <= byte < 127 for byte in file.read(4))
    for number in range(_MAX_CHUNKS):
        file.seek(position)
        name, size = file.read(4), _integer(file, 4, "little")
        position += 8 + size + size % 2
        if position - 1 > present or not (any(name) or size):
            return is_named and number > 0
        if present - position < 8:
            return True
    return False


class _Patched(io.RawIOBase):
    """A file in which some bytes read differently: position -> bytes."""

    def __init__(self, path: Path, patches: dict[int, bytes]) -> None:
        self._file, self._patches = path.open("rb"), patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        start = self._file.tell()
        content = bytearray(self._file.read(len(buffer)))
        for position, patch in self._patches.items():
            for i, value in enumerate(patch):
                if 0 <= position + i - start < len(content):
                    content[position + i - start] = value
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _declared_bytes(file: IO[bytes]) -> int | None:
    """The size of the whole file by its header; None where it is unknown or not declared."""
    file.seek(0)
    kind = file.read(4)
    if kind in (b"RIFF", b"FORM"):
        declared = 8 + _integer(file, 4, "little" if kind == b"RIFF" else "big")
        return declared if declared < _UNKNOWN_BYTES else None
    if kind in (b"RF64", b"BW64"):
        file.seek(12)
        return 8 + _integer(file, 8, "little") if file.read(8)[:4] == b"ds64" else None
    if kind == b".snd":
        offset, size = _integer(file, 4, "big"), _integer(file, 4, "big")
        return offset + size if size < _UNKNOWN_BYTES else None
    if kind == b"dns.":
        offset, size = _integer(file, 4, "little"), _integer(file, 4, "little")
        return offset + size if size < _UNKNOWN_BYTES else None
    start = kind + file.read(16)
    if start[:16] == _W64_RIFF:
        file.seek(16)
        return _integer(file, 8, "little")
    if start.startswith(b"NIST_1A\n"):
        return _nist_bytes(file)
    if start.startswith(b"Creative Voice File"):
        return _voc_bytes(file)
    return None


def _nist_bytes(file: IO[bytes]) -> int | None:
    """The size of a NIST SPHERE file by its header: lines of name, type and value."""
    file.seek(0)
    lines = file.read(1_024).split(b"\n")
    values = {fields[0]: fields[2] for line in lines if len(fields := line.split()) == 3}
    if b"embedded" in values.get(b"sample_coding", b""):
        return None
    try:
        counts = [int(values[name]) for name in _NIST_COUNTS]
        return int(lines[1]) + math.prod(counts)
    except (KeyError, ValueError, IndexError):
        return None


def _voc_bytes(file: IO[bytes]) -> int | None:
    """The size of a VOC file: blocks of a type and a size of 24 bits, up to one of type 0."""
    file.seek(20)
    position = _integer(file, 2, "little")
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        block = file.read(4)
        if len(block) < 4 or block[0] == 0:
            return position + 1
        position += 4 + int.from_bytes(block[1:], "little")
    return None


def _find_chunk(file: IO[bytes], position: int, name: bytes, end: int) -> int | None:
    """Where the content of a RIFF file's chunk starts."""
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        chunk, size = file.read(4), _integer(file, 4, "little")
        if chunk == name:
            return position + 8
        position += 8 + size + size % 2
        if position >= end:
            return None
    return None


def _rf64_samples(file: IO[bytes], end: int) -> int:
    """Bytes of samples that an RF64 file declares."""
    sizes = _find_chunk(file, 12, b"ds64", end)
    if sizes is None:
        return 0
    file.seek(sizes + 8)
    return _integer(file, 8, "little")


def _integer(file: IO[bytes], size: int, order: ByteOrder) -> int:
    return int.from_bytes(file.read(size), order)
