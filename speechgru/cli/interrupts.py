"""Ctrl-C and SIGTERM between two blocks of a stream, so that each is heard, told and kept whole."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt, but wait for what must be whole.

    In a thread that is not the main one, which hears of no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._waiting = True
        self._wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; a signal interrupts the wait for one, but not what is done with it."""
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
            self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._waiting or self._wanted:
            raise KeyboardInterrupt
        self._wanted = True
