"""Real recordings for the tests: what lies under ../shared/data, unpacked once."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# As the command line does, before torch is loaded: see speechgru.cli.app.main.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PROJECT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SPEECHGRU_SHARED", PROJECT.parent / "shared"))


def _unpacked(name: str) -> Path:
    unpack = SHARED / "data" / "unpack.py"
    if not unpack.exists():
        pytest.skip(f"no recordings: {unpack} is not there")
    root = Path(tempfile.gettempdir()) / f"speechgru-test-data-{os.getuid()}"
    subprocess.run(
        [sys.executable, str(unpack), str(root), "--only", name], check=True, capture_output=True
    )
    return root / name


@pytest.fixture(scope="session")
def gsc_open() -> Path:
    """10,500 Speech Commands clips with lists, `_silence_` and `_background_noise_`."""
    return _unpacked("gsc-open")


@pytest.fixture(scope="session")
def fsdd() -> Path:
    """3,000 spoken digits at 8 kHz by six speakers, in word folders."""
    return _unpacked("fsdd")


@pytest.fixture(scope="session")
def ambient_speech() -> Path:
    """180 utterances of read speech, 29 minutes."""
    return _unpacked("ambient-speech")
