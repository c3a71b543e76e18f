"""Archives from elsewhere: their SHA-256, and unpacking that nothing can escape from."""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from speechgru.common.progress import Progress
from speechgru.errors import DataError, SpeechGRUError

_BLOCK_BYTES = 1024 * 1024


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
    """Give an empty folder beside `target` that becomes `target` when the block succeeds.

    The folder's name depends on the target's alone, so that what a killed process left is cleared
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
    """Unpack a tar.gz, whose SHA-256 tells that it is whole, into `folder`, trusting nothing in it.

    Only plain files and folders are taken, under relative names without `..`; each passes
    tarfile's data filter too where this Python has it. `progress` counts bytes of the archive.

    Raises:
        DataError: no tar.gz, one that breaks off in a member, one with a link, a device or a name
            that leads elsewhere, or more than `max_files` members or `max_bytes` unpacked.
    """
    total = archive.stat().st_size
    members = unpacked_bytes = 0
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r|gz") as tar:
            # On a Python that has no filters this is an attribute that nobody reads.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in tar:
                members += 1
                unpacked_bytes += member.size
                _check_member(archive, member)
                if members > max_files or unpacked_bytes > max_bytes:
                    raise DataError(
                        f"{archive}: holds more than {max_files:,} members or {max_bytes:,} bytes; "
                        "it is not the archive that it should be"
                    )
                tar.extract(member, folder)
                if progress is not None:
                    progress(file.tell(), total)
    except tarfile.TarError as error:
        raise DataError(f"{archive}: not a whole tar.gz archive: {error}") from error


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        raise DataError(f"{archive}: hostile: member {member.name!r} leads out of the folder")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DataError(
            f"{archive}: hostile: member {member.name!r} is a {_kind(member)}; "
            "only plain files and folders are unpacked"
        )


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"symbolic link to {member.linkname!r}"
    if member.islnk():
        return f"hard link to {member.linkname!r}"
    if member.isdev():
        return "pipe" if member.isfifo() else "device"
    return "sparse file" if member.issparse() else f"member of type {member.type!r}"
