"""A signal that comes before the server is ready: it ends at once, and cleanly."""

import signal
import subprocess
import sys

import pytest

#: Runs `serve`, with a function that reports that it is called, and is slow.
PROGRAM = """
import sys, time
from importlib import import_module
from speechgru.cli import main

module, name = sys.argv[1:3]
real = getattr(import_module(module), name)

def late(*arguments, **options):
    print("here", flush=True)
    time.sleep(2)
    return real(*arguments, **options)

setattr(import_module(module), name, late)
sys.exit(main(["serve", "--port", "0"]))
"""


def signalled(place, number):
    """The exit code and stderr of a server that gets a signal when it is at a place."""
    command = [sys.executable, "-c", PROGRAM, *place]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _, written = process.communicate(timeout=60)
    return process.returncode, written


@pytest.mark.parametrize(
    "place",
    [
        ("speechgru.serve.models", "open_models"),
        pytest.param(("speechgru.serve.server", "make_app"), marks=pytest.mark.slow),
        # In the event loop.
        pytest.param(("speechgru.serve.server", "_address_of"), marks=pytest.mark.slow),
        ("uvicorn.lifespan.off", "LifespanOff"),  # the server has taken over the signals
    ],
)
def test_sigterm_while_starting(place):
    code, written = signalled(place, signal.SIGTERM)
    assert code == 0
    assert "serving" not in written or place[1] == "LifespanOff"
    assert "Traceback" not in written


def test_sigint_while_starting_is_an_interruption():
    code, written = signalled(("speechgru.serve.models", "open_models"), signal.SIGINT)
    assert code == 130
    assert "Traceback" not in written
