"""A sink of PulseAudio that PortAudio hears as the only microphone there is."""

import shutil
import subprocess
import tempfile

import pytest
from places import SHARED

from speechgru.audio.microphone import Microphone
from speechgru.audio.portaudio import restart_portaudio

SCRIPT = SHARED / "virtual-mic.sh"


@pytest.fixture(scope="module")
def plug():
    """Runs the virtual microphone's verbs; it is there, and nothing else is, for these tests."""
    if not SCRIPT.exists() or shutil.which("pulseaudio") is None:
        pytest.skip(f"no virtual microphone: {SCRIPT} and PulseAudio are needed")
    folder = tempfile.mkdtemp(prefix="vmic-")  # a socket's path must be short
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("XDG_RUNTIME_DIR", folder),
            ("HOME", folder),
            ("PULSE_SERVER", f"unix:{folder}/pulse/native"),
        ):
            environment.setenv(name, value)

        def run(*verb):
            subprocess.run([SCRIPT, *verb], check=True, stdout=subprocess.DEVNULL)

        run("start")
        try:
            restart_portaudio()
            _wait_for_sound()
            yield run
        finally:
            run("stop")
            restart_portaudio()
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for_sound():
    """A sink without a driver takes seconds to its first block."""
    with Microphone() as microphone:
        next(microphone.blocks())
