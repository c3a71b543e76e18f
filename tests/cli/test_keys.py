"""Single keys of a terminal."""

import os
import pty
import signal
import sys
import termios
import time
import types

import numpy as np
import pytest

from speechgru.audio.sources import Block
from speechgru.cli import record
from speechgru.cli.keys import Keys


@pytest.fixture
def press(monkeypatch):
    """Keys of a terminal that is stdin, as they arrive together."""
    controller, terminal = pty.openpty()

    def presses(text: str) -> None:
        os.write(controller, text.encode())
        time.sleep(0.05)  # a terminal passes them on in its own time

    with os.fdopen(terminal, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield presses
    os.close(controller)


def test_a_key_that_bounces_is_one_answer(press):
    with Keys() as keys:
        assert keys.poll() == ""
        press("YY")
        assert (keys.poll(), keys.poll()) == ("y", "")
        press("ö")
        assert keys.poll() == "ö"


def test_a_key_needs_no_enter_after_the_program_was_stopped(press):
    """A shell gives back the terminal as it was before."""
    before = termios.tcgetattr(sys.stdin)
    with Keys() as keys:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
        os.kill(os.getpid(), signal.SIGCONT)
        press("y")
        assert keys.poll() == "y"
    assert signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


def test_an_arrow_is_no_answer(press):
    with Keys() as keys:
        press("\x1b[A")
        assert (keys.poll(), keys.poll()) == ("", "")
        press("o")
        assert keys.poll() == "o"


def test_an_arrow_on_windows_is_no_answer(monkeypatch):
    pressed = ["\xe0", "H", "o", "\xe0"]  # an arrow, and at the end the letter à
    console = types.SimpleNamespace(kbhit=lambda: bool(pressed), getwch=lambda: pressed.pop(0))
    monkeypatch.setitem(sys.modules, "msvcrt", console)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    keys = Keys()
    assert [keys.poll() for _ in range(4)] == ["", "o", "à", ""]


def test_q_ends_the_recording_of_the_room_and_keeps_it(press, tmp_path):
    kept = []
    blocks = 0

    def sound():
        nonlocal blocks
        for _ in range(100):
            if blocks == 10:
                press("q")
            blocks += 1
            yield Block(np.full(record.RATE // 10, 0.1, np.float32))

    def keep(samples):
        kept.append(len(samples) / record.RATE)
        return tmp_path / "room.flac"

    result = {}
    with pytest.raises(KeyboardInterrupt):
        record._stretch(sound(), 8.0, keep, result, "room")
    assert blocks == 11
    assert kept == [pytest.approx(1.1)]
    assert result == {"room": str(tmp_path / "room.flac")}


def test_a_stretch_interrupted_before_its_first_sound_is_no_silent_microphone(tmp_path):
    def interrupted():
        raise KeyboardInterrupt
        yield

    result = {}
    with pytest.raises(KeyboardInterrupt):
        record._stretch(interrupted(), 8.0, lambda samples: tmp_path / "room.flac", result, "room")
    assert result == {}
