"""Archives that ship with the package, unpacked once into the cache."""

import shutil
import tempfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from importlib import resources
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from speechgru.common.files import write_atomic
from speechgru.common.locks import lock_file
from speechgru.corpora.cache import HINT, default_cache_dir
from speechgru.errors import SpeechGRUError


def archive_bytes(name: str) -> bytes:
    """The archive `<name>.zip` in the package."""
    return (resources.files("speechgru.corpora") / f"{name}.zip").read_bytes()


def unpacked(name: str, cache_dir: Path | None = None) -> Path:
    """The folder with the content of an archive.

    It is unpacked once, into `<name>-<hash of the archive>` under `cache_dir`, `$SPEECHGRU_CACHE`
    or ~/.cache/speechgru. After that its files are compared with the archive's checksums, and
    missing or damaged ones are written again. Several processes may do this at once.

    Raises:
        SpeechGRUError: the cache cannot be written, or the disk is full.
    """
    content = archive_bytes(name)
    folder = (cache_dir or default_cache_dir()) / f"{name}-{sha256(content).hexdigest()[:12]}"
    with ZipFile(BytesIO(content)) as archive:
        if not folder.is_dir():
            _unpack(archive, folder, name)
        for member in _damaged(archive, folder):
            write_atomic(folder / member.filename, archive.read(member))
    return folder


def _unpack(archive: ZipFile, folder: Path, name: str) -> None:
    """Unpack beside `folder` and rename, so that it is complete or does not exist."""
    prefix = f".{folder.name}."
    with lock_file(folder.parent / f".{name}.lock", hint=HINT):
        if folder.is_dir():  # another process was first
            return
        # We hold the lock: anything half unpacked was left by a killed process.
        for leftover in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as temporary:
                whole = Path(temporary) / folder.name
                archive.extractall(whole)
                whole.rename(folder)
        except OSError as error:
            raise SpeechGRUError(
                f"{folder}: cannot be written: {error.strerror or error}{HINT}"
            ) from error


def _damaged(archive: ZipFile, folder: Path) -> Iterator[ZipInfo]:
    """The members of the archive that are missing on disk, or differ there."""
    for member in archive.infolist():
        try:
            content = (folder / member.filename).read_bytes()
        except OSError:
            yield member
        else:
            if zlib.crc32(content) != member.CRC:
                yield member
