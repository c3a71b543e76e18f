"""Single keys of a terminal."""

import os
import pty
import sys
import time

import pytest

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


def test_an_arrow_is_no_answer(press):
    with Keys() as keys:
        press("\x1b[A")
        assert (keys.poll(), keys.poll()) == ("", "")
        press("o")
        assert keys.poll() == "o"
