"""A file over HTTP that goes on where a broken connection, a kill or Ctrl-C left it."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.version import __version__

TIMEOUT_S = 30.0
CHUNK_BYTES = 256 * 1024
#: Answers that may be another one a moment later: timeout, too many requests.
_PASSING = frozenset({408, 429})


@dataclass(frozen=True)
class _Remote:
    """What the server said of the file whose first bytes we hold, kept beside them as JSON."""

    validator: str | None
    size_bytes: int | None


class _BrokenError(Exception):
    """A transfer that another attempt may finish."""

    def __init__(self, reason: str, reached_server: bool = True) -> None:
        super().__init__(reason)
        self.reached_server = reached_server


def fetch(
    url: str,
    part: Path,
    expected_bytes: int | None = None,
    progress: Progress | None = None,
    attempts: int = 6,
    pause_s: float = 0.25,
) -> None:
    """Download `url` to the file `part`, going on behind the bytes an earlier call left there.

    A connection that breaks is taken up again with a Range request; If-Range (the ETag or
    Last-Modified of the first answer, kept in `part`.json) makes a server whose file has changed
    send it from the start. A server that ignores Range is read from the start too. `attempts` is
    how many in a row may fail without a new byte; the pause before each doubles from `pause_s`.
    Whatever stops the transfer, `part` keeps the bytes that came.

    Raises:
        UsageError: the address is not one of http or https.
        SpeechGRUError: no connection, an error status, too many breaks, or a full disk.
        DataError: the server's file has another size than `expected_bytes`.
    """
    check_url(url)
    failures, furthest, reached_server = 0, held_bytes(part), False
    while True:
        try:
            return _transfer(url, part, expected_bytes, progress)
        except _BrokenError as broken:
            held = held_bytes(part)
            failures = 1 if held > furthest else failures + 1
            furthest = max(furthest, held)
            reached_server |= broken.reached_server
            if failures >= attempts or not reached_server:
                kept = f"; {held:,} bytes are kept in {part}, run again to go on" if held else ""
                raise SpeechGRUError(f"{url}: {broken}{kept}") from broken
            time.sleep(pause_s * 2 ** (failures - 1))


def held_bytes(part: Path) -> int:
    """How many bytes of a file are there already."""
    return part.stat().st_size if part.exists() else 0


def discard(part: Path) -> None:
    """Remove a partial file and what is known of it."""
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def check_url(url: str) -> None:
    """Raise UsageError for an address that is not http or https with a host."""
    try:
        pieces = urlsplit(url)
        usable = pieces.scheme in ("http", "https") and pieces.hostname and (pieces.port or 1)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--url {url}: an address that begins with http:// or https:// is needed")


def _transfer(url: str, part: Path, expected_bytes: int | None, progress: Progress | None) -> None:
    """One attempt: returns when the file is whole, else raises _BrokenError."""
    held, remote = _resumable(part)
    if held and held == remote.size_bytes:
        return
    request = urllib.request.Request(url, headers={"User-Agent": f"speechgru/{__version__}"})
    if held:
        request.add_header("Range", f"bytes={held}-")
        if remote.validator:
            request.add_header("If-Range", remote.validator)
    with _answer(request, part, held) as response:
        start, total = _extent(response)
        _check_right_file(response, total, expected_bytes)
        if start and (start != held or remote.size_bytes not in (None, total)):
            discard(part)
            raise _BrokenError("the server's file changed during the download")
        if not start:
            discard(part)
            remote = _Remote(_validator(response), total)
            write_atomic(_notes(part), json.dumps(asdict(remote)))
        wanted = total or expected_bytes or 0
        done = _append(response, part, start, wanted, progress)
    if wanted and done != wanted:
        raise _BrokenError(f"the connection broke off after {done:,} of {wanted:,} bytes")


def _check_right_file(
    response: http.client.HTTPResponse, total: int | None, expected_bytes: int | None
) -> None:
    """Refuse what cannot be the archive before a byte of it replaces one that we hold."""
    if response.headers.get_content_type() == "text/html":
        raise DataError(f"{response.url}: a wrong file: a web page; a tar.gz archive is needed")
    if total is not None and expected_bytes is not None and total != expected_bytes:
        raise DataError(
            f"{response.url}: a wrong file: {total:,} bytes, where the archive with the known "
            f"SHA-256 has {expected_bytes:,}"
        )


def _resumable(part: Path) -> tuple[int, _Remote]:
    """The bytes held, and of what; without notes that make sense a part is worth nothing."""
    try:
        remote = _Remote(**json.loads(_notes(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return 0, _Remote(None, None)
    return held_bytes(part), remote


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _answer(request: urllib.request.Request, part: Path, held: int) -> http.client.HTTPResponse:
    url = request.full_url
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            said = f"the server answered {error.code} {error.reason}".rstrip()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and held:
                discard(part)
                raise _BrokenError(said) from error
            if error.code in _PASSING or error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _BrokenError(said) from error
            raise SpeechGRUError(f"{url}: {said}; --url names a mirror") from error
    except urllib.error.URLError as error:
        why = getattr(error.reason, "strerror", None) or error.reason
        raise _BrokenError(f"no connection: {why}", reached_server=False) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"no answer: {error or type(error).__name__}") from error


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where the body begins in the file, and how long the whole file is, where it is told."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if told is None:
            raise SpeechGRUError(f"{response.url}: a partial answer without its Content-Range")
        return int(told[1]), int(told[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """The strong ETag, else the date; a weak ETag does not promise the same bytes."""
    etag: str | None = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    date: str | None = response.headers.get("Last-Modified")
    return date


def _append(
    response: http.client.HTTPResponse,
    part: Path,
    start: int,
    total: int,
    progress: Progress | None,
) -> int:
    """Write the body behind the first `start` bytes of `part`; gives the file's new length."""
    done = start
    with _writing(part), part.open("ab") as file:
        while True:
            if progress is not None:
                progress(done, total)
            try:
                chunk = response.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(f"the connection broke off: {error}") from error
            if not chunk:
                return done
            file.write(chunk)
            file.flush()
            done += len(chunk)


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpeechGRUError(f"{part}: cannot be written: {error.strerror or error}") from error
