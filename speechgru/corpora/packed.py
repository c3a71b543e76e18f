"""Recordings decoded and resampled once, cached in one memory-mapped file of 16-bit samples."""

import json
import os
import re
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import read
from speechgru.audio.pcm import Packed, to_packed
from speechgru.audio.samples import SAMPLE_RATE, check_channel, loudest_start
from speechgru.common.files import atomic_path, remove_leftovers, write_atomic
from speechgru.common.progress import Progress
from speechgru.corpora.cache import (
    INDEX,
    Seal,
    default_cache_dir,
    locked,
    note_use,
    prune,
)
from speechgru.corpora.corpus import Corpus, Example
from speechgru.corpora.fingerprint import files_fingerprint
from speechgru.errors import DataError, SpeechGRUError

FORMAT = "speechgru-packed-audio"
FORMAT_VERSION = 3

#: Digits of the fingerprint in a folder's name.
_NAME_DIGITS = 20
_NAME = re.compile(f"[0-9a-f]{{{_NAME_DIGITS}}}")
_SAMPLES = "samples.s16"
#: Recordings that are decoded at a time; each may last an hour.
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class PackedAudio:
    """The samples of many recordings at one rate, memory-mapped.

    `buffer` (total samples,) holds one recording after the other in the order of `paths`; `lengths`
    are theirs, in samples. It is cached in `folder`, if anywhere.
    """

    paths: tuple[Path, ...]
    lengths: NDArray[np.int64]
    buffer: Packed
    rate: int
    fingerprint: str
    folder: Path | None = None
    #: Checksum of `buffer`, if it is known.
    crc32: int | None = None

    def samples(self, path: Path) -> Packed:
        """A recording's samples, (S,), read-only.

        Raises:
            DataError: it is not among the packed recordings.
        """
        index = self._index(path)
        return self.buffer[self._ends[index] - self.lengths[index] : self._ends[index]]

    def cuts(self, examples: Sequence[Example], clip_samples: int) -> NDArray[np.int64]:
        """Where clips of one length lie in `buffer`, first sample and end: (N, 2).

        Of a long recording it is the stretch with the most speech, as in `audio.samples.fit`; of a
        short one, all. An example without a path has an empty cut; one with a start is cut from
        there.

        Raises:
            DataError: an example's recording is not among the packed ones.
        """
        cuts = np.zeros((len(examples), 2), np.int64)
        for cut, example in zip(cuts, examples, strict=True):
            if example.path is None:
                continue
            index = self._index(example.path)
            first, end = self._ends[index] - self.lengths[index], self._ends[index]
            if example.start_s is not None:
                first += min(int(example.start_s * self.rate), end - first)
            elif end - first > clip_samples:
                first += loudest_start(self.buffer[first:end], clip_samples, self.rate)
            cut[:] = first, min(first + clip_samples, end)
        return cuts

    def read(self, cuts: NDArray[np.int64], out: Packed) -> Packed:
        """Copy cuts (N, 2) to clips `out` (N, clip_samples); short ones are padded with zeros."""
        for clip, (first, end) in zip(out, cuts.tolist(), strict=True):
            clip[: end - first] = self.buffer[first:end]
            clip[end - first :] = 0
        return out

    def gather(self, examples: Sequence[Example], clip_samples: int) -> Packed:
        """All examples as clips of one length, cut as in `cuts`: (N, clip_samples)."""
        cuts = self.cuts(examples, clip_samples)
        return self.read(cuts, np.empty((len(examples), clip_samples), np.int16))

    def _index(self, path: Path) -> int:
        try:
            return self._indices[os.fspath(path)]
        except KeyError:
            raise DataError(f"{path}: not among the {len(self.paths)} packed recordings") from None

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {os.fspath(path): index for index, path in enumerate(self.paths)}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths)


def pack(
    recordings: Corpus | Sequence[Path],
    rate: int = SAMPLE_RATE,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    channel: int | None = None,
) -> PackedAudio:
    """Decode recordings (of a corpus, its clips and noises) once; later, only open the result.

    The result lies in a folder of its own under `cache_dir`, `$SPEECHGRU_CACHE` or
    ~/.cache/speechgru, named after the files' directory, names, sizes and times of change: where
    one of them changes, or the result is damaged, everything is decoded again. A folder there may
    be deleted at any time; one that was not opened for a month is deleted when another is made.
    `progress` counts the recordings that are decoded. All channels are averaged, unless one is
    chosen, from 1.

    Raises:
        DataError: recordings cannot be decoded; names the first and how many.
        SpeechGRUError: the cache cannot be written, or the disk is full.
    """
    root, paths = _recordings(recordings)
    check_channel(channel)
    # Archives may give the files of two corpora the same names, sizes and times.
    place = os.path.realpath(root)
    fingerprint = files_fingerprint(root, paths, FORMAT, FORMAT_VERSION, rate, channel, place)
    cache = cache_dir or default_cache_dir()
    folder = cache / fingerprint[:_NAME_DIGITS]
    found = _open(folder, paths, rate, fingerprint)
    if found is not None:
        note_use(folder)
        return found
    prune(path for path in cache.glob("*") if _NAME.fullmatch(path.name))
    with locked(folder):
        # Another process may have packed these recordings while this one waited.
        found = _open(folder, paths, rate, fingerprint)
        if found is None:
            _write(folder, root, paths, rate, channel, fingerprint, progress)
            found = _open(folder, paths, rate, fingerprint)
    if found is None:
        raise SpeechGRUError(f"{folder}: was changed by another program during writing")
    return found


def _recordings(recordings: Corpus | Sequence[Path]) -> tuple[Path, tuple[Path, ...]]:
    if isinstance(recordings, Corpus):
        root = recordings.root
        paths = [clip.path for clip in recordings.clips] + list(recordings.noises)
    else:
        root, paths = Path(), [Path(path) for path in recordings]
    if not paths:
        raise DataError(f"{root}: no recordings to decode; at least one is needed")
    return root, tuple(dict.fromkeys(paths))


def _open(folder: Path, paths: tuple[Path, ...], rate: int, fingerprint: str) -> PackedAudio | None:
    """What is cached in `folder`; None where there is nothing, or it is damaged."""
    file = folder / _SAMPLES
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index.pop("crc32") != _crc32(index):
            return None
        lengths = np.array(index["lengths"], np.int64)
        seal = Seal(*index["samples"])
        whole = index["fingerprint"] == fingerprint and lengths.shape == (len(paths),)
        if not whole or not seal.fits(file):
            return None
        buffer = np.asarray(np.memmap(file, "<i2", mode="r"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return PackedAudio(paths, lengths, buffer, rate, fingerprint, folder, seal.crc32)


def _write(
    folder: Path,
    root: Path,
    paths: tuple[Path, ...],
    rate: int,
    channel: int | None,
    fingerprint: str,
    progress: Progress | None,
) -> None:
    file = folder / _SAMPLES
    for path in (file, folder / INDEX):
        remove_leftovers(path)
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        lengths, crc32 = _decode_into(opened, root, paths, rate, channel, progress)
    index = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "rate": rate,
        "fingerprint": fingerprint,
        "lengths": lengths,
        "samples": Seal.of(file, crc32),
    }
    # The index comes last: where it is, the samples are complete.
    write_atomic(folder / INDEX, json.dumps({**index, "crc32": _crc32(index)}))


def _crc32(index: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(index).encode())


def _decode_into(
    file: BinaryIO,
    root: Path,
    paths: tuple[Path, ...],
    rate: int,
    channel: int | None,
    progress: Progress | None,
) -> tuple[list[int], int]:
    """Append all recordings to an open file.

    Returns their lengths in samples, and the CRC-32 of the samples.
    """
    lengths: list[int] = []
    crc32 = 0
    errors: list[DataError] = []

    def decode(path: Path) -> Packed | DataError:
        try:
            return to_packed(read(path, rate, channel))
        except DataError as error:
            return error
        except OSError as error:
            return DataError(f"{path}: cannot be read: {error.strerror or error}")

    waiting = iter(paths)
    # Decoding and resampling release the interpreter's lock. Few at a time bound the memory.
    with ThreadPoolExecutor(_THREADS) as pool:
        pending = deque(pool.submit(decode, path) for path in islice(waiting, 2 * _THREADS))
        for done in range(1, len(paths) + 1):
            decoded = pending.popleft().result()
            pending.extend(pool.submit(decode, path) for path in islice(waiting, 1))
            if isinstance(decoded, DataError):
                errors.append(decoded)
            elif not errors:
                file.write(decoded.data)
                crc32 = zlib.crc32(decoded.data, crc32)
                lengths.append(len(decoded))
            if progress is not None and (done % 64 == 0 or done == len(paths)):
                progress(done, len(paths))
    if errors:
        raise DataError(
            f"{errors[0]}; {len(errors)} of {len(paths)} recordings cannot be used: "
            f"`speechgru data check {quote(str(root))}` lists what is wrong"
        )
    return lengths, crc32
