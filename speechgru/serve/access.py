"""Addresses of a server, and who may use it: by the request's token, origin and host."""

import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from speechgru.errors import SpeechGRUError, UsageError

#: The token as a WebSocket subprotocol, the only header that a page in a browser can set.
PROTOCOL_PREFIX = "bearer."
_LEAST_CHARACTERS, _MOST_CHARACTERS = 16, 4096
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """A host and a port; port 0 picks a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def own_address(port: int) -> Address:
    """What others can type for a server on all addresses, 0.0.0.0 or ::, which they cannot."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only a route is looked up
            return Address(probe.getsockname()[0], port)
        except OSError:  # there is no network yet
            return Address(socket.gethostname(), port)


def site_origin(url: str) -> str:
    """The origin by which a browser names a site: scheme, host, and a port that is not usual.

    >>> site_origin("https://Example.org:443/"), site_origin("http://hub.local:8123")
    ('https://example.org', 'http://hub.local:8123')

    Raises:
        UsageError: it is no http or https URL, or has a path.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in _PORTS or url.rstrip("/").count("/") != 2:
        raise UsageError(f"--origin {url}: http://HOST[:PORT] or https://HOST[:PORT] is needed")
    shown = f"[{host}]" if ":" in host else host
    return (
        f"{parts.scheme}://{shown}{f':{port}' if port not in (None, _PORTS[parts.scheme]) else ''}"
    )


def read_token(path: Path) -> str:
    """The token in a file; a missing file is created with a new token, readable by its owner only.

    Raises:
        UsageError: the token is too short, or has characters that a header cannot hold.
        SpeechGRUError: it is a directory.
        OSError: the file cannot be read or written.
    """
    if path.is_dir():
        raise SpeechGRUError(f"--token-file {path}: is a directory; a file name is needed")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    with path.open(encoding="ascii", errors="replace") as file:
        token = file.read(_MOST_CHARACTERS).strip()
    allowed = all(c.isascii() and (c.isalnum() or c in "-._~") for c in token)
    if len(token) < _LEAST_CHARACTERS or not allowed:
        raise UsageError(
            f"{path}: a token of at least {_LEAST_CHARACTERS} letters, digits, '-', '.', '_' or "
            "'~' is needed"
        )
    return token


@dataclass(frozen=True)
class Access:
    """What a request needs in order to be served.

    Args:
        token: None requires none; then only requests to a loopback host are served, because another
            site could otherwise reach the server by a domain name that resolves to this machine.
        origins: sites whose pages may use the server, such as `https://example.org`.
    """

    token: str | None = None
    origins: frozenset[str] = frozenset()

    def refusal(
        self,
        headers: Mapping[str, str],
        scheme: str,
        protocols: Iterable[str] = (),
        public: bool = False,
    ) -> str | None:
        """Why a request is refused, or None.

        Args:
            headers: by name in lower case.
            scheme: http or https, as the client sees it.
            protocols: those that a WebSocket client offers.
            public: whether the path needs no token, and may be loaded by any site.
        """
        host = headers.get("host", "")
        if self.token is None and not is_loopback(_name(host)):
            return "host"
        origin = headers.get("origin")
        if public:  # no secret; and so the page can say what else is refused
            return None
        if origin is not None and origin not in self.origins and not _same(origin, host, scheme):
            return "origin"
        if self.token is None:
            return None
        offered = [p.removeprefix(PROTOCOL_PREFIX) for p in protocols if _is_token(p)]
        authorization = headers.get("authorization", "")
        if authorization[:7].lower() == "bearer ":
            offered.append(authorization[7:].strip())
        given = self.token.encode()
        matches = [hmac.compare_digest(given, token.encode()) for token in offered]
        return None if any(matches) else "token"


def _is_token(protocol: str) -> bool:
    return protocol.startswith(PROTOCOL_PREFIX)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(origin: str, host: str, scheme: str) -> bool:
    return origin == f"{scheme}://{host}"
