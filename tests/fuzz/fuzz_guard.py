"""Runs the command line on an input, and judges what it did."""

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import IO, Any

from speechgru.cli import main

LONGEST_MESSAGE = 400
MAX_S = 20.0
MAX_BYTES = 1 << 30


class TooSlowError(BaseException):
    """A call took longer than it may."""


@dataclass(frozen=True)
class Outcome:
    """What a call gave."""

    arguments: Sequence[str]
    code: int
    out: str
    err: str
    seconds: float

    def faults(self, codes: Sequence[int]) -> list[str]:
        """What is wrong with it, where it may end with `codes`."""
        found = []
        if self.code not in codes:
            found.append(f"exit code {self.code}")
        if re.search("error: unexpected [A-Z]|Traceback|error: out of memory", self.err):
            found.append("not a sentence for a user")
        if self.code and not self.err.strip():
            found.append("no message")
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        if any(len(line) > LONGEST_MESSAGE + len("error: ") for line in lines):
            found.append("a message that is too long")
        if any(not (letter.isprintable() or letter == "\n") for letter in self.out + self.err):
            found.append("control characters")
        if self.seconds > MAX_S:
            found.append(f"{self.seconds:.0f} s")
        return found

    def __str__(self) -> str:
        return f"{' '.join(self.arguments)}\ncode {self.code}\n{self.err[-1_500:]}"


def call(arguments: Sequence[str], stdin: bytes = b"") -> Outcome:
    """Run a command in this process, within limits of time and memory."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    piped = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
    started = monotonic()
    before = sys.stdin
    sys.stdin = piped
    try:
        with _of_libraries(1) as raw_out, _of_libraries(2) as raw_err:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _limits():
                code = main(list(arguments))
            seconds = monotonic() - started
            texts = [_all_of(out, raw_out), _all_of(err, raw_err)]
    finally:
        sys.stdin = before
    return Outcome(arguments, code, texts[0], texts[1], seconds)


@contextlib.contextmanager
def _of_libraries(descriptor: int) -> Iterator[IO[bytes]]:
    """A file that holds what libraries in C write to a descriptor."""
    saved = os.dup(descriptor)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), descriptor)
        try:
            yield file
        finally:
            os.dup2(saved, descriptor)
            os.close(saved)


def _all_of(stream: io.TextIOWrapper, raw: IO[bytes]) -> str:
    stream.flush()
    raw.seek(0)
    content: bytes = stream.buffer.getvalue() + raw.read()  # type: ignore[attr-defined]
    return content.decode(errors="replace")


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """A second more than the time that is allowed, and so much memory more than there is now."""
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, MAX_S + 1)
    restore = _limit_memory()
    try:
        yield
    finally:
        restore()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _limit_memory() -> Callable[[], Any]:
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        size = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MAX_BYTES, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"over {MAX_S:g} s")
