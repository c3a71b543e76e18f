"""Ctrl-C, SIGTERM and a closed terminal: during imports, in a stream, and in a training run."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self, TypeVar

from speechgru.cli.terminal import err

T = TypeVar("T")

#: Sent when the terminal is closed; unknown to Windows.
_HANG_UP = getattr(signal, "SIGHUP", None)


def _signals() -> list[signal.Signals]:
    """Those that stop a program; not a hang-up where `nohup` lets it go on."""
    hang_up = _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([_HANG_UP] if _HANG_UP and hang_up else [])]


def _leave_closed_terminal() -> None:
    """Drop what is written to a terminal that is closed, as writing to it would raise OSError."""
    for stream in (sys.stdout, sys.stderr):
        try:
            os.write(stream.fileno(), b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Gives a callback that says whether Ctrl-C was pressed.

    KeyboardInterrupt is raised as usual. During an import it may turn into any other exception,
    such as ImportError, so the caller asks here whether that was an interruption.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread receives signals
        return
    noted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        noted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the program with exit code 0, through all `finally` blocks; so does SIGHUP.

    Without a handler, process 1, which a container's program is, would ignore the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            raise SystemExit(0)
        _leave_closed_terminal()
        os.kill(os.getpid(), signal.SIGTERM)  # whose handler may be another one by now

    with _handlers(end, set(_signals()) - {signal.SIGINT}):
        yield


def leave_on_hang_up() -> None:
    """A closed terminal ends the process that started this one, which tells this one to end."""
    if _HANG_UP is not None and _HANG_UP in _signals():
        signal.signal(_HANG_UP, lambda *_: _leave_closed_terminal())


class Interrupts:
    """While entered, the signals that stop raise KeyboardInterrupt between items of a stream.

    Outside the main thread, which alone receives signals, this does nothing.
    """

    def __init__(self) -> None:
        self._waiting = True
        self._wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on; a signal interrupts the wait for an item, but not the work on it."""
        iterator = iter(items)
        while True:
            self._waiting = True
            if self._wanted:
                raise KeyboardInterrupt
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waiting = False
            yield item

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == _HANG_UP:
            _leave_closed_terminal()
        if self._wanted and number != signal.SIGINT:
            return  # a closed terminal may say so twice
        is_due = self._waiting or self._wanted
        self._wanted = True
        if is_due:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Gives a callback that says whether to stop: after the first SIGINT, SIGTERM or SIGHUP.

    A second SIGINT raises KeyboardInterrupt at once.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        if number == _HANG_UP:
            _leave_closed_terminal()
        err.line("saving ...")

    with _handlers(handle):
        yield lambda: bool(received)


@contextmanager
def ignored_signals() -> Iterator[Callable[[], bool]]:
    """As `stop_on_signals`, for a process that another one stops: ignores the signals."""
    with _handlers(lambda *_: None):
        yield lambda: False


@contextmanager
def _handlers(
    handler: Callable[[int, FrameType | None], None], numbers: Iterable[signal.Signals] = ()
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers or _signals()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
