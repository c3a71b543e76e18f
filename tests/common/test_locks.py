"""A lock keeps other processes out, and nothing else."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from speechgru.common.locks import LockedError, lock_file
from speechgru.errors import SpeechGRUError


def test_a_second_holder_is_refused_or_waits(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    with lock_file(lock), pytest.raises(LockedError, match="another process holds this lock"):
        lock_file(lock, wait=False).__enter__()
    with lock_file(lock, wait=False):
        assert lock.is_file()


@pytest.mark.parametrize(
    "reason", [OSError(errno.ENOLCK, "no locks"), NotImplementedError("flock")]
)
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch, reason) -> None:
    def acquire(lock: FileLock) -> None:
        raise reason

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(SpeechGRUError, match="its file system has no locks"):
        lock_file(tmp_path / "lock").__enter__()


def test_an_error_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), lock_file(tmp_path / "lock"):
        raise ValueError("ours")
    with lock_file(tmp_path / "lock", wait=False):
        pass


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("of somebody else")
    for target in (notes, tmp_path / "missing"):
        lock = tmp_path / f"{target.stem}.lock"
        lock.symlink_to(target)
        with pytest.raises(SpeechGRUError, match=r"\.lock: is a symbolic link"):
            lock_file(lock).__enter__()
    assert notes.read_text() == "of somebody else"
    assert not (tmp_path / "missing").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpeechGRUError, match=r"file: cannot be written: .*; try another"):
        lock_file(tmp_path / "file" / "lock", hint="; try another").__enter__()


def _hold_until_killed(lock: Path) -> None:
    with lock_file(lock):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_hold_until_killed, args=(tmp_path / "lock",)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with lock_file(tmp_path / "lock", wait=False):
        pass
