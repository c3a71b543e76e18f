"""Reads single keys of a terminal without waiting and without Enter."""

import os
import sys
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
            import tty

            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
