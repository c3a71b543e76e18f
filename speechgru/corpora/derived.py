"""What is computed from packed recordings, kept beside them: a second training starts at once."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.common.files import atomic_path
from speechgru.corpora.cache import LOCK, locked
from speechgru.corpora.packed import PackedAudio
from speechgru.errors import SpeechGRUError

#: Arrays of one name, as of several recipes; the oldest are thrown away.
MOST = 3


def kept(
    packed: PackedAudio,
    name: str,
    code: ModuleType,
    of: Sequence[object],
    make: Callable[[], NDArray[Any]],
) -> NDArray[Any]:
    """The array that `make` gives, made once for the same recordings, `code` and arguments `of`.

    It is mapped, and what is written to it stays in memory. Where it cannot be kept it is made each
    time. Everything that `make` depends on but the recordings is in `code`, numpy and `of`.
    """
    if packed.folder is None:
        return make()
    file = packed.folder / f"{name}-{_digest(code, of)}.npy"
    with suppress(OSError, ValueError):  # it is not there, or not whole
        array: NDArray[Any] = np.lib.format.open_memmap(file, mode="c")
        file.touch()
        return array
    array = make()
    with suppress(SpeechGRUError):
        _write(file, name, array)
    return array


def _write(file: Path, name: str, array: NDArray[Any]) -> None:
    with locked(file.parent / LOCK):
        # The lock is ours: what lies here half written is of a process that was killed.
        for leftover in file.parent.glob(f".{name}-*.tmp"):
            leftover.unlink(missing_ok=True)
        others = sorted(file.parent.glob(f"{name}-*.npy"), key=lambda path: path.stat().st_mtime)
        for old in others[: -(MOST - 1)]:
            old.unlink(missing_ok=True)
        with atomic_path(file) as temporary, temporary.open("wb") as open_file:
            np.save(open_file, array)


def _digest(code: ModuleType, of: Sequence[object]) -> str:
    total = sha256(inspect.getsource(code).encode() + np.__version__.encode())
    for part in of:
        array = np.asarray(part)
        total.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()[:20]
