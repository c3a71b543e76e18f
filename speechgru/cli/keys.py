"""Reads single keys of a terminal without waiting and without Enter."""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, Self

_MOST_BYTES = 1024
_ESCAPE = b"\x1b"
#: Arrows and the like are two characters on Windows.
_WINDOWS_PREFIXES = ("\x00", "\xe0")


class Keys:
    """While entered, pressed keys can be polled; without a terminal there are none."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._before: Any = None
        self._on_continue: Any = None

    def poll(self) -> str:
        """The next key in lower case, or "" if none was pressed.

        What was pressed with it, as by a key that bounces, is dropped, and so are arrows and the
        like: it would be taken for an answer to the next question.
        """
        if not self._is_terminal:
            return ""
        if sys.platform == "win32":
            import msvcrt

            key = msvcrt.getwch() if msvcrt.kbhit() else ""
            if key in _WINDOWS_PREFIXES and msvcrt.kbhit():
                msvcrt.getwch()
                return ""
            return key.lower()
        import select

        ready, _, _ = select.select([sys.stdin], [], [], 0)
        # Not by sys.stdin, which would keep what it has read beyond the first key.
        pressed = os.read(sys.stdin.fileno(), _MOST_BYTES) if ready else b""
        return pressed.decode(errors="ignore")[:1].lower() if pressed[:1] != _ESCAPE else ""

    def __enter__(self) -> Self:
        if self._is_terminal and sys.platform != "win32":
            import termios

            self._before = termios.tcgetattr(sys.stdin)
            self._set_single_keys()
            if threading.current_thread() is threading.main_thread():
                self._on_continue = signal.signal(signal.SIGCONT, self._set_single_keys)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            if self._on_continue is not None:
                signal.signal(signal.SIGCONT, self._on_continue)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    @staticmethod
    def _set_single_keys(*_: object) -> None:
        """Keys without Enter; a shell sets its own way while the process is stopped by Ctrl-Z."""
        import termios
        import tty

        with suppress(termios.error):
            if not _is_in_background():
                tty.setcbreak(sys.stdin)


def _is_in_background() -> bool:
    """Whether the terminal is another job's; setting it would stop this process."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp()
    except OSError:  # it controls no jobs
        return False
