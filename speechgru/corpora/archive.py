"""Archives from elsewhere: their SHA-256, and unpacking that cannot be abused."""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, cast

from speechgru.common.progress import Progress
from speechgru.common.wording import shown
from speechgru.errors import DataError, SpeechGRUError

_BLOCK_BYTES = 1024 * 1024
#: Of headers between two files, long names too, which tarfile holds in memory.
_MAX_HEADER_BYTES = 64 * 1024
#: What tarfile and gzip raise for archives that are damaged, or made to damage.
_ERRORS = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, UnicodeError),
    *(ValueError, OverflowError, RecursionError, IndexError, KeyError, TypeError),
)


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits; `progress` counts bytes."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` when the block succeeds.

    The folder's name depends on the target's alone, so that what a killed process left is removed
    by the next one. `target` may be an empty folder.

    Raises:
        SpeechGRUError: it cannot be written, or the disk is full.
    """
    staging = target.with_name(f".{target.name}.unpacking")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        if target.exists():
            target.rmdir()
        staging.rename(target)
    except OSError as error:
        raise SpeechGRUError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def unpack(
    archive: Path,
    folder: Path,
    max_files: int,
    max_bytes: int,
    progress: Progress | None = None,
) -> None:
    """Unpack a tar.gz, whose checksum shows that it is complete, into `folder`.

    Only plain files and folders are accepted, with relative names without `..`; each also passes
    tarfile's data filter where this Python has it. `progress` counts bytes of the archive.

    Raises:
        DataError: not a tar.gz, or a truncated one; a link, a device or a name that leads
            elsewhere; more than `max_files` members or `max_bytes` unpacked; a header of more than
            64 KiB.
    """
    total = archive.stat().st_size
    members = unpacked_bytes = 0
    try:
        with (
            archive.open("rb") as file,
            gzip.GzipFile(fileobj=file) as unzipped,
            nullcontext(_Metered(archive, unzipped)) as stream,
            tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar,
        ):
            # On a Python that has no filters this attribute does nothing.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in tar:
                members += 1
                unpacked_bytes += max(0, member.size)
                _check_member(archive, member)
                if members > max_files or unpacked_bytes > max_bytes:
                    raise DataError(
                        f"{archive}: holds more than {max_files:,} members or {max_bytes:,} bytes; "
                        "it is not the archive that it should be"
                    )
                stream.allow(member.size)
                tar.extract(member, folder, set_attrs=False)  # neither owner nor mode
                if progress is not None:
                    progress(file.tell(), total)
    except _ERRORS as error:
        raise DataError(f"{archive}: not a complete tar.gz archive: {error}") from error
    if members == 0:
        raise DataError(f"{archive}: an archive without files")


class _Metered:
    """A stream that refuses to give more than headers need between one file and the next."""

    def __init__(self, archive: Path, stream: gzip.GzipFile) -> None:
        self._archive, self._stream = archive, stream
        self._left = _MAX_HEADER_BYTES

    def allow(self, file_bytes: int) -> None:
        """A file of this size comes next, and then headers."""
        self._left = file_bytes + _MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._archive}: hostile: the header of a member has more than "
                f"{_MAX_HEADER_BYTES:,} bytes"
            )
        return content


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    label = f"{archive}: hostile: member {shown(member.name)}"
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        raise DataError(f"{label} points outside the target folder")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DataError(f"{label} is a {_kind(member)}; only plain files and folders are unpacked")
    if member.size < 0:
        raise DataError(f"{label} has a negative size")


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"symbolic link to {shown(member.linkname)}"
    if member.islnk():
        return f"hard link to {shown(member.linkname)}"
    if member.isdev():
        return "pipe" if member.isfifo() else "device"
    return "sparse file" if member.issparse() else f"member of type {member.type!r}"
