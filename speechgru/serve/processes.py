"""A server of several processes: each serves the clients that the system gives it.

Python runs on one core at a time, so one process cannot keep two busy.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType

from speechgru.common.parents import end_with
from speechgru.errors import SpeechGRUError
from speechgru.serve.sockets import Listeners

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Place:
    """What one process of a server has of its own.

    `is_first`: it is the one that tells the user where the server listens; it has to call `ready`
    once it serves.
    """

    listeners: Listeners
    is_first: bool
    ready: Callable[[], object]


def fork(listeners: Sequence[Listeners]) -> Place | int:
    """Fork a process for each of the listeners, the others once the first is ready; wait for all.

    Call this before there are threads. A signal to this process reaches all. If one of them ends by
    itself, or this process does, all do.

    Returns:
        A place in each of the processes; the exit code in this one, in the end.

    Raises:
        SpeechGRUError: a process was killed.
    """
    parent, family = os.getpid(), _Family()
    reader, writer = os.pipe()
    with family.signals_passed_on():
        for own in listeners:
            if family.fork():
                os.setpgid(0, 0)  # Ctrl-C reaches this process once, from its parent
                for other in listeners:
                    if other is not own:
                        other.close()
                end_with(parent)
                return Place(own, own is listeners[0], partial(os.write, writer, b"1"))
            if own is listeners[0]:
                os.close(writer)
                if not os.read(reader, 1):  # it has ended, or is about to
                    break
            if family.is_ending:
                break
        for own in listeners:
            own.close()
        return family.wait()


class _Family:
    """The processes that this one has forked."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._codes: list[int] = []
        self._received: list[int] = []
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def fork(self) -> bool:
        """Fork; whether this is the new process, in which signals do what they did before."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        child = os.fork()
        if child:
            self._children.add(child)
        else:
            self._restore()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return not child

    @property
    def is_ending(self) -> bool:
        """Whether there was a signal, or a process has ended."""
        self._reap(os.WNOHANG)
        return bool(self._received or self._codes)

    def wait(self) -> int:
        """Wait for all, which end when one does; returns the exit code of that one."""
        while self._children:
            self._reap(0)
        if self._codes[0] < 0:
            raise SpeechGRUError(f"a process of the server was killed by signal {-self._codes[0]}")
        return self._codes[0]

    @contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        """While entered, SIGINT and SIGTERM reach all the processes."""
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)
        try:
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None = None) -> None:
        self._received.append(number)
        for child in self._children:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(child, number)

    def _reap(self, options: int) -> None:
        child, status = os.waitpid(-1, options)
        if child:
            self._children.discard(child)
            self._codes.append(os.waitstatus_to_exitcode(status))
            if not self._received:
                self._pass_on(signal.SIGTERM)
