"""A real HTTP server on the loopback interface that can misbehave in the ways that servers do."""

import hashlib
import io
import random
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: A small corpus: what an archive holds.
RECORDINGS = {
    f"{word}/{speaker:08x}_nohash_0.wav": random.Random(f"{word}{speaker}").randbytes(20_000)
    for word in ("yes", "no")
    for speaker in range(5)
}
CORPUS = {"./README.md": b"Recordings.\n", **RECORDINGS}


@dataclass
class Mirror:
    """What the server holds, how it behaves, and what it was asked.

    `breaks` has, for each request to come, after how many bytes of its answer the connection is
    cut; `statuses` is the same for errors; 0 and None are none. `hold` is called with what was
    sent of an answer, after each of its pieces.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    breaks: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    knows_range: bool = True
    knows_if_range: bool = True
    tells_length: bool = True
    reason: str | None = None
    hold: Callable[[int], None] = lambda sent: None
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [request.get("Range") for request in self.requests]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        mirror: Mirror = self.server.mirror  # type: ignore[attr-defined]
        mirror.requests.append(dict(self.headers))
        status = mirror.statuses.pop(0) if mirror.statuses else 0
        cut = mirror.breaks.pop(0) if mirror.breaks else None
        if status:
            self.send_error(status, mirror.reason)
            return
        content, size = mirror.content, len(mirror.content)
        start = self._start(mirror)
        if start is not None and start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        body = content[start or 0 :]
        if mirror.tells_length:
            self.send_header("Content-Length", str(len(body)))
        for name, value in mirror.headers.items():
            self.send_header(name, value)
        self.end_headers()
        body = body[:cut]
        for at in range(0, len(body), 8192):
            self.wfile.write(body[at : at + 8192])
            mirror.hold(min(at + 8192, len(body)))

    def _start(self, mirror: Mirror) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        stale = condition is not None and condition not in mirror.headers.values()
        if not asked or not mirror.knows_range or (stale and mirror.knows_if_range):
            return None
        return int(asked[1])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(mirror: Mirror) -> Iterator[Mirror]:
    """Run the server in a thread; `mirror.url` is the address of its one file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.daemon_threads = True
    server.mirror = mirror  # type: ignore[attr-defined]
    mirror.url = f"http://127.0.0.1:{server.server_port}/archive.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tar_gz(members: dict[str, bytes], special: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A tar.gz archive of files, and of members that are none."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
        for member in special:
            tar.addfile(member)
    return packed.getvalue()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
