"""Downloads over HTTP that resume after a broken connection, a kill or Ctrl-C."""

import base64
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
from urllib.parse import unquote, urlsplit, urlunsplit

from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.version import __version__

TIMEOUT_S = 30.0
CHUNK_BYTES = 256 * 1024
#: Errors that may pass: timeout, too many requests.
_TEMPORARY = frozenset({408, 429})
#: Of a connection and what comes over it. `http.client` believes any length that a server claims,
#: also of the body of a redirect, and then fails by the last two.
_NO_ANSWER = (OSError, http.client.HTTPException, ValueError, OverflowError, MemoryError)


@dataclass(frozen=True)
class _Remote:
    """What the server said about the file that we have a part of; kept beside it as JSON."""

    validator: str | None
    size_bytes: int | None


class _BrokenError(Exception):
    """A transfer that may succeed at another attempt."""

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
    """Download `url` to the file `part`, after the bytes that an earlier call left there.

    A broken connection is resumed with a Range request; If-Range (the ETag or Last-Modified of the
    first answer, kept in `part`.json) makes a server whose file has changed send it from the start,
    as does a server that ignores Range. `attempts` is how many in a row may fail without a new
    byte; the pause before each doubles, beginning with `pause_s`. Whatever stops the transfer,
    `part` keeps the bytes that arrived.

    Raises:
        UsageError: the address is not http or https.
        SpeechGRUError: no connection, an error status, too many breaks, or a full disk.
        DataError: the server's file does not have `expected_bytes`.
    """
    check_url(url)
    failures, furthest, reached_server = 0, present_bytes(part), False
    while True:
        try:
            return _transfer(url, part, expected_bytes, progress)
        except _BrokenError as broken:
            present = present_bytes(part)
            failures = 1 if present > furthest else failures + 1
            furthest = max(furthest, present)
            reached_server |= broken.reached_server
            if failures >= attempts or not reached_server:
                resume = f"; {part} has {present:,} bytes, run again to resume" if present else ""
                raise SpeechGRUError(f"{public_url(url)}: {broken}{resume}") from broken
            time.sleep(pause_s * 2 ** (failures - 1))


def present_bytes(part: Path) -> int:
    """How many bytes of a partial file there are."""
    return part.stat().st_size if part.exists() else 0


def discard(part: Path) -> None:
    """Delete a partial file and what is known about it."""
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def public_url(url: str) -> str:
    """An address to print or keep: without a password or the query, which may hold a key.

    >>> public_url("https://anna:secret@example.org:8080/a.tar.gz?key=secret")
    'https://example.org:8080/a.tar.gz'
    """
    pieces = urlsplit(url)
    return urlunsplit((pieces.scheme, pieces.netloc.rpartition("@")[2], pieces.path, "", ""))


def check_url(url: str) -> None:
    """Raise UsageError unless an address is http or https with a host."""
    try:
        pieces = urlsplit(url)
        usable = pieces.scheme in ("http", "https") and pieces.hostname and (pieces.port or 1)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("--url: an http:// or https:// address is needed")


def _transfer(url: str, part: Path, expected_bytes: int | None, progress: Progress | None) -> None:
    """One attempt: returns when the file is complete, else raises _BrokenError."""
    present, remote = _resumable(part)
    if present and present == remote.size_bytes:
        return
    request = _request(url)
    if present:
        request.add_header("Range", f"bytes={present}-")
        if remote.validator:
            request.add_header("If-Range", remote.validator)
    with _answer(request, part, present) as response:
        start, total = _extent(response)
        _check_right_file(response, total, expected_bytes)
        if start and (start != present or remote.size_bytes not in (None, total)):
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


def _request(url: str) -> urllib.request.Request:
    """A request; a name and password in the address are sent to its own host alone."""
    pieces = urlsplit(url)
    login, at, host = pieces.netloc.rpartition("@")
    address = urlunsplit((pieces.scheme, host, pieces.path, pieces.query, ""))
    request = urllib.request.Request(address, headers={"User-Agent": f"speechgru/{__version__}"})
    if at:
        encoded = base64.b64encode(unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {encoded}")
    return request


def _check_right_file(
    response: http.client.HTTPResponse, total: int | None, expected_bytes: int | None
) -> None:
    """Refuse what cannot be the archive before it replaces what we have."""
    if response.headers.get_content_type() == "text/html":
        raise DataError(f"{public_url(response.url)}: a web page; a tar.gz archive is needed")
    if total is not None and expected_bytes is not None and total != expected_bytes:
        raise DataError(
            f"{public_url(response.url)}: a wrong file: {total:,} bytes; the published archive has "
            f"{expected_bytes:,}"
        )


def _resumable(part: Path) -> tuple[int, _Remote]:
    """How much of which file we have; a part without readable notes is not resumed."""
    try:
        remote = _Remote(**json.loads(_notes(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return 0, _Remote(None, None)
    return present_bytes(part), remote


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _answer(request: urllib.request.Request, part: Path, present: int) -> http.client.HTTPResponse:
    url = public_url(request.full_url)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            answer = f"the server answered {error.code} {_printable(error.reason)}".rstrip()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and present:
                discard(part)
                raise _BrokenError(answer) from error
            if error.code in _TEMPORARY or error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _BrokenError(answer) from error
            raise SpeechGRUError(f"{url}: {answer}; --url names a mirror") from error
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise _BrokenError(f"no connection: {_printable(reason)}", reached_server=False) from error
    except _NO_ANSWER as error:
        reason = _printable(error) or type(error).__name__
        raise _BrokenError(f"no answer: {reason}") from error


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where the body begins in the file, and the size of the whole file, if it is known."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        content_range = response.headers.get("Content-Range", "")
        extent = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", content_range)
        if extent is None:
            url = public_url(response.url)
            raise SpeechGRUError(f"{url}: a partial answer without its Content-Range")
        return int(extent[1]), int(extent[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None


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
    """Write the body after the first `start` bytes of `part`; returns the file's new size."""
    done = start
    with _writing(part), part.open("ab") as file:
        while not total or done <= total:
            if progress is not None:
                progress(done, total)
            try:
                chunk = response.read1(CHUNK_BYTES)
            except _NO_ANSWER as error:
                raise _BrokenError(f"the connection broke off: {_printable(error)}") from error
            if not chunk:
                break
            file.write(chunk)
            file.flush()
            done += len(chunk)
    return done


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpeechGRUError(f"{part}: cannot be written: {error.strerror or error}") from error


def _printable(text: object) -> str:
    """What a server sent, in one short line."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    return line if len(line) <= 80 else f"{line[:77]}..."
