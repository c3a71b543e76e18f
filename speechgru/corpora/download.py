"""Public corpora, and the way from a published archive to a complete directory."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.filesize import decimal

from speechgru.common.locks import LockedError, lock_file
from speechgru.common.progress import Progress
from speechgru.corpora.archive import atomic_folder, sha256_of, unpack
from speechgru.corpora.listing import list_words
from speechgru.corpora.transfer import check_url, discard, fetch, present_bytes, public_url
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError, UsageError

_HOST = "https://storage.googleapis.com/download.tensorflow.org/data"
#: A second of 16-bit audio at 16 kHz with its header, in whole disk blocks.
_CLIP_BYTES = 32_768
#: Background recordings, lists, licence, and room to spare.
_EXTRA_BYTES = 32_000_000


@dataclass(frozen=True)
class Source:
    """A published archive."""

    name: str
    url: str
    sha256: str
    size_bytes: int
    clips: int

    @property
    def unpacked_bytes(self) -> int:
        """About what its files take on disk: clips of at most one second."""
        return self.clips * _CLIP_BYTES + _EXTRA_BYTES


#: Warden (2018), https://arxiv.org/abs/1804.03209.
SOURCES = {
    source.name: source
    for source in (
        Source(
            "speech-commands-v1",
            f"{_HOST}/speech_commands_v0.01.tar.gz",
            "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
            size_bytes=1_489_096_277,
            clips=64_727,
        ),
        Source(
            "speech-commands-v2",
            f"{_HOST}/speech_commands_v0.02.tar.gz",
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            size_bytes=2_428_923_189,
            clips=105_829,
        ),
        Source(
            "speech-commands-v2-test",
            f"{_HOST}/speech_commands_test_set_v0.02.tar.gz",
            "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
            size_bytes=112_563_277,
            clips=4_890,
        ),
    )
}

#: Shows a stage ("downloading") while it is open; yields its progress callback, or None.
Stage = Callable[[str], AbstractContextManager[Progress | None]]


@dataclass(frozen=True)
class Receipt:
    """What a finished download leaves in its folder, to be recognized later."""

    source: str
    url: str
    sha256: str
    files: int
    bytes: int


@dataclass(frozen=True)
class SpaceNeeded:
    """Bytes that a download needs, and that are free on the disk."""

    download: int
    unpacked: int
    free: int


class Download:
    """The download of one public corpus into the folder `target`.

    The archive comes from `url` (default: where it was published) and must have the published
    SHA-256; `sha256` is for a mirror that packed the same recordings into another file. Until it is
    unpacked it lies beside the target as `<archive>.part`. An archive that is already there under
    its own name is used instead, and stays.

    Raises:
        UsageError: an unknown name, an invalid address, or `sha256` without `url`.
    """

    def __init__(
        self,
        name: str,
        target: Path | None = None,
        url: str | None = None,
        sha256: str | None = None,
    ) -> None:
        if name not in SOURCES:
            raise UsageError(f"unknown corpus {name!r}; known: {', '.join(SOURCES)}")
        if sha256 is not None and url is None:
            raise UsageError("--sha256 is for the archive of a mirror: it needs --url")
        self.source = SOURCES[name]
        self.target = Path(target or name).absolute()
        self._address = url or self.source.url
        check_url(self._address)
        self.sha256 = (sha256 or self.source.sha256).lower()
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise UsageError(f"--sha256 {sha256}: 64 hexadecimal digits are needed")

    @property
    def url(self) -> str:
        """Where the archive comes from, without a password."""
        return public_url(self._address)

    @property
    def archive(self) -> Path:
        """Where a complete archive is kept."""
        return self.target.parent / Path(urlsplit(self.source.url).path).name

    @property
    def part(self) -> Path:
        """Where the archive lies until it is unpacked."""
        return self.archive.with_name(f"{self.archive.name}.part")

    def finished(self) -> Receipt | None:
        """The receipt of an earlier download whose recordings are all there, or None.

        Raises:
            SpeechGRUError: the target holds something else, or recordings are missing.
        """
        if not self.target.exists() or (self.target.is_dir() and not any(self.target.iterdir())):
            return None
        receipt = _read_receipt(self.target)
        if receipt is None or receipt.sha256 != self.sha256:
            holds = f"holds {receipt.source}" if receipt else "exists already"
            raise SpeechGRUError(
                f"{self.target}: {holds}; --out needs a new or an empty folder for "
                f"{self.source.name}"
            )
        files, size_bytes = _measure(self.target)
        if (files, size_bytes) != (receipt.files, receipt.bytes):
            raise SpeechGRUError(
                f"{self.target}: {self.source.name} was changed: it has {files:,} of "
                f"{receipt.files:,} files, {size_bytes:,} of {receipt.bytes:,} bytes; "
                "delete the folder to download it again"
            )
        return receipt

    def space_needed(self) -> SpaceNeeded:
        """What is still to be downloaded and unpacked."""
        present = self.source.size_bytes if self.archive.exists() else present_bytes(self.part)
        existing = next(folder for folder in self.target.parents if folder.exists())
        return SpaceNeeded(
            download=max(0, self.source.size_bytes - present),
            unpacked=self.source.unpacked_bytes,
            free=shutil.disk_usage(existing).free,
        )

    def run(self, keep_archive: bool = False, stage: Stage | None = None) -> Receipt:
        """Download, verify and unpack; the target is complete at the end, or does not exist.

        Raises:
            SpeechGRUError: the disk is too small or cannot be written, or the network failed; the
                next call resumes the download.
            DataError: a wrong SHA-256 (the file is deleted), or a hostile archive.
            InterruptedRunError: Ctrl-C; the next call resumes the download.
        """
        self._check_space()
        try:
            with _exclusive(self.archive):
                return self._run(keep_archive, stage or _no_display)
        except KeyboardInterrupt:
            present = decimal(present_bytes(self.part))
            raise InterruptedRunError(
                f"interrupted: {self.part} has {present} of {self.source.name}; "
                "the same command resumes the download"
            ) from None

    def _run(self, keep_archive: bool, stage: Stage) -> Receipt:
        archive = self._obtain(stage)
        with atomic_folder(self.target) as folder:
            with stage("unpacking") as progress:
                unpack(
                    archive,
                    folder,
                    max_files=2 * self.source.clips,
                    max_bytes=2 * self.source.unpacked_bytes,
                    progress=progress,
                )
            receipt = Receipt(self.source.name, self.url, self.sha256, *_measure(folder))
            _receipt_path(folder).write_text(json.dumps(asdict(receipt)), encoding="utf-8")
        if keep_archive and archive == self.part:
            archive.rename(self.archive)
        discard(self.part)
        return receipt

    def _check_space(self) -> None:
        space = self.space_needed()
        if space.download + space.unpacked > space.free:
            raise SpeechGRUError(
                f"{self.target.parent}: {decimal(space.free)} are free; {self.source.name} needs "
                f"{decimal(space.download + space.unpacked)} ({decimal(space.download)} to "
                f"download, {decimal(space.unpacked)} unpacked)"
            )

    def _obtain(self, stage: Stage) -> Path:
        """The verified archive: one that is there already, or a downloaded one."""
        archive = self.archive
        if not archive.exists():
            archive = self.part
            published = self.sha256 == self.source.sha256
            expected_bytes = self.source.size_bytes if published else None
            with stage("downloading") as progress:
                fetch(self._address, archive, expected_bytes, progress)
        with stage("verifying") as progress:
            found = sha256_of(archive, progress)
        if found == self.sha256:
            return archive
        if archive == self.part:
            discard(archive)
            where, what_now = self.url, "it was deleted"
        else:
            where, what_now = str(archive), "delete it to download the right one"
        raise DataError(f"{where}: its SHA-256 is {found}, not {self.sha256}; {what_now}")


def _read_receipt(folder: Path) -> Receipt | None:
    try:
        return Receipt(**json.loads(_receipt_path(folder).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _receipt_path(folder: Path) -> Path:
    return folder / ".speechgru-download.json"


def _measure(folder: Path) -> tuple[int, int]:
    """How many recordings the folder holds, and their bytes; other files do not count."""
    listed = list_words(folder).folders
    sizes = [(folder / word / name).stat().st_size for word in listed for name in listed[word]]
    return len(sizes), sum(sizes)


@contextmanager
def _exclusive(archive: Path) -> Iterator[None]:
    """Keep a second process from writing the same files."""
    path = archive.with_name(f".{archive.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_file(path, wait=False))
        except LockedError:
            raise SpeechGRUError(f"{archive}: another process is downloading it") from None
        try:
            yield
        finally:
            with suppress(PermissionError):  # on Windows, where the lock deletes its file itself
                path.unlink(missing_ok=True)


@contextmanager
def _no_display(_name: str) -> Iterator[None]:
    yield None
