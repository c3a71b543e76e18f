"""Arrays computed from packed recordings, cached beside them: a second training starts at once."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.common.files import atomic_path, remove_leftovers, write_atomic
from speechgru.corpora.cache import Seal, locked
from speechgru.corpora.packed import PackedAudio
from speechgru.errors import SpeechGRUError

#: Arrays of one name that are cached, as for several recipes; the oldest are deleted.
MAX_CACHED = 3


@dataclass(frozen=True)
class DerivedArray:
    """An array that can be cached.

    `version` is raised with every change of the code that computes it, and of the constants that
    this code uses and that are no inputs of `cached`: arrays of other versions are not used.
    """

    name: str
    version: int


def cached(
    derived: DerivedArray,
    packed: PackedAudio,
    inputs: Sequence[object],
    compute: Callable[[], NDArray[Any]],
) -> NDArray[Any]:
    """The array that `compute` returns, computed once for the same recordings and inputs.

    It is memory-mapped; what is written to it stays in this process. A cached file that is damaged
    is computed again, and where the cache cannot be written the array is computed each time.

    Args:
        inputs: numbers, texts and arrays that decide, beside the recordings, what is computed.
    """
    if packed.folder is None:
        return compute()
    file = packed.folder / f"{derived.name}-{_digest(derived, packed, inputs)}.npy"
    with suppress(OSError, ValueError, TypeError):  # it is not there, or damaged
        if Seal(*json.loads(_seal_of(file).read_bytes())).fits(file):
            array: NDArray[Any] = np.lib.format.open_memmap(file, mode="c")
            _seal_of(file).touch()
            return array
    array = compute()
    with suppress(SpeechGRUError):
        _write(file, derived.name, array)
    return array


def _write(file: Path, name: str, array: NDArray[Any]) -> None:
    with locked(file.parent):
        for path in (file, _seal_of(file)):
            remove_leftovers(path)
        seals = file.parent.glob(f"{name}-*.seal")
        for seal in sorted(seals, key=lambda path: path.stat().st_mtime)[: -(MAX_CACHED - 1)]:
            seal.unlink(missing_ok=True)
            seal.with_suffix(".npy").unlink(missing_ok=True)
        with atomic_path(file) as temporary, temporary.open("wb") as open_file:
            np.save(open_file, array)
        write_atomic(_seal_of(file), json.dumps(Seal.of(file)))


def _seal_of(file: Path) -> Path:
    return file.with_suffix(".seal")


def _digest(derived: DerivedArray, packed: PackedAudio, inputs: Sequence[object]) -> str:
    total = sha256(f"{derived} {np.__version__} {packed.fingerprint} {packed.rate}".encode())
    for value in inputs:
        array = np.asarray(value)
        total.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()[:20]
