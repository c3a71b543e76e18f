"""What tests share: real recordings from ../shared/data, unpacked once; a corpus of tones."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import once
import pytest
from filelock import FileLock
from places import SHARED

if TYPE_CHECKING:
    from speechgru.training.trainer import Trainer

# As the command line does, before torch is loaded: see speechgru.cli.guard.main.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers have the cores already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# In a shell's background SIGINT is ignored, and under nohup SIGHUP, here and in all that a test
# starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """All that modules make when they are imported stays: nothing of it is ever looked through."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _unpacked(name: str) -> Path:
    unpack = SHARED / "data" / "unpack.py"
    if not unpack.exists():
        pytest.skip(f"no recordings: {unpack} is not there")
    root = Path(tempfile.gettempdir()) / f"speechgru-test-data-{os.getuid()}"
    root.mkdir(exist_ok=True)
    with FileLock(root / f"{name}.lock"):  # one process unpacks, the others wait
        subprocess.run(
            [sys.executable, str(unpack), str(root), "--only", name],
            check=True,
            capture_output=True,
        )
    return root / name


@pytest.fixture(scope="session", autouse=True)
def _common_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is trained and decoded once for all workers lies here, and not in the user's cache."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    (root / "once").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(once.VARIABLE, str(root / "once"))
        patch.setenv("SPEECHGRU_CACHE", str(root / "cache"))
        yield


@pytest.fixture(scope="session")
def tones() -> Path:
    """The manifest of a corpus that is learned in a second; nobody writes to it."""
    from tones import shared_tones

    return shared_tones()


@pytest.fixture(scope="session")
def quick_run(tones: Path) -> Path:
    """The folder of a finished quick run on the tones; nobody writes to it."""
    from runs import finished_run

    return finished_run(tones)


@pytest.fixture(scope="module")
def trainer(tones: Path) -> "Trainer":
    """Of a quick run on the tones; not to be stepped."""
    from runs import make_trainer, quick_recipe

    return make_trainer(quick_recipe(tones))


@pytest.fixture
def seeded() -> None:
    """torch draws the same numbers in each test."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="module")
def quick_costs() -> Iterator[None]:
    """Cells' costs are measured by few calls."""
    from speechgru.analysis import cell_costs as costs

    with pytest.MonkeyPatch.context() as patch:
        for name, few in {"BATCHES": 1, "CALLS": 20, "ROUNDS": 2}.items():
            patch.setattr(costs, name, few)
        yield


@pytest.fixture(scope="module")
def few_sounds(quick_run: Path) -> Iterator[None]:
    """Trainers begin with less noise and running speech; speech is decoded once.

    Except for that of `quick_run`, which modules without this compare their runs with.
    """
    from speechgru.corpora.derived import DerivedArray
    from speechgru.corpora.other_sounds import OtherSounds
    from speechgru.training import batches, noise, stream_validation, talk
    from speechgru.training.data import TrainingData

    all_noises = OtherSounds.noise

    def few_recordings(data: TrainingData, split: str) -> tuple[Path, ...]:
        return talk.talk_recordings(data, split)[: 20 if split == "training" else 60]

    def few_noises(sounds: OtherSounds, split: str) -> tuple[Path, ...]:
        return all_noises(sounds, split)[:6]

    talk_bank = cache(talk.talk_bank)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "SYNTHETIC_S", 6)
        patch.setattr(OtherSounds, "noise", few_noises)
        patch.setattr(batches, "BANK", DerivedArray("few-noises", version=1))
        for module in (batches, stream_validation):
            patch.setattr(module, "talk_recordings", few_recordings)
            patch.setattr(module, "talk_bank", talk_bank)
        yield


@pytest.fixture(scope="module")
def quick_streams(few_sounds: None) -> Iterator[None]:
    """Trainers of streams count their labels in fewer clips, and validate on less."""
    from speechgru.training import stream_batches, stream_validation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_batches, "_COUNTED_CLIPS", 1024)
        patch.setattr(stream_validation, "_MIN_WORDS", 96)
        patch.setattr(stream_validation, "_TALK_SPEEDS", (1.0,))
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


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
