"""Where the training clips lie: on the device, in the machine's memory, or in the mapped file."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechgru.audio.pcm import Packed
from speechgru.corpora.corpus import Example
from speechgru.corpora.packed import PackedAudio

Place = Literal["device", "host", "mapped"]

#: Share of the free memory that the clips may take.
ROOM = 0.5
#: Clips that are looked at together, where all are.
BLOCK = 1024


class PlacedClips:
    """Clips of one length as 16-bit samples, which come to the device as they are chosen.

    Those that have room on the device lie there. Others are fetched a batch ahead, by a thread,
    from the machine's memory or from the packed file; then through pinned memory to a GPU, while
    the last batch is computed.

    Args:
        wanted: a place, or "auto" for the first that has room.
    """

    def __init__(
        self,
        packed: PackedAudio,
        examples: Sequence[Example],
        clip_samples: int,
        device: torch.device,
        wanted: Place | Literal["auto"] = "auto",
    ) -> None:
        self.packed, self.clip_samples, self.device = packed, clip_samples, device
        self.cuts = packed.cuts(examples, clip_samples)
        self.place = choose_place(self.size_bytes, device) if wanted == "auto" else wanted
        self.clips: Tensor | None = None
        if self.place != "mapped":
            home = device if self.place == "device" else torch.device("cpu")
            self.clips = torch.from_numpy(self.read(np.arange(len(self)))).to(home)
        self._ahead: tuple[Tensor, Future[_Fetched]] | None = None
        self._thread = ThreadPoolExecutor(1, "clips") if self.place != "device" else None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and self._thread else None

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def comes_ahead(self) -> bool:
        """Whether clips are fetched before they are taken."""
        return self._thread is not None

    @property
    def size_bytes(self) -> int:
        """Of all clips."""
        return 2 * len(self) * self.clip_samples

    def __str__(self) -> str:
        where = {
            "device": "in memory" if self.device.type == "cpu" else f"on {self.device}",
            "host": "in the machine's memory, fetched a batch ahead",
            "mapped": "in the packed file, fetched a batch ahead",
        }
        return f"{len(self):,} clips, {self.size_bytes / 1e9:.2f} GB, {where[self.place]}"

    def blocks(self) -> Iterator[Packed]:
        """All clips in their order, `BLOCK` at a time: (N, clip_samples)."""
        for start in range(0, len(self), BLOCK):
            yield self.read(np.arange(start, min(start + BLOCK, len(self))))

    def read(self, chosen: np.ndarray) -> Packed:
        """Clips out of the packed file: (B,) -> (B, clip_samples)."""
        return self.packed.read(
            self.cuts[chosen], np.empty((len(chosen), self.clip_samples), np.int16)
        )

    def take(self, chosen: Tensor) -> Tensor:
        """The clips of these numbers, which the CPU holds, on the device: (B,) -> (B, S) int16."""
        if self.clips is not None and self.clips.device == self.device and self._thread is None:
            return self.clips[chosen.to(self.device, non_blocking=True)]
        ahead, self._ahead = self._ahead, None
        if ahead is not None and torch.equal(ahead[0], chosen):
            fetched = ahead[1].result()
        else:
            fetched = self._fetch(chosen)
        if fetched.arrived is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(fetched.arrived)
            fetched.clips.record_stream(here)
        return fetched.clips

    def expect(self, chosen: Tensor) -> None:
        """Begin to fetch the clips that will be taken next."""
        if self._thread is not None:
            self._ahead = chosen, self._thread.submit(self._fetch, chosen)

    def _fetch(self, chosen: Tensor) -> "_Fetched":
        shape = len(chosen), self.clip_samples
        clips = torch.empty(shape, dtype=torch.int16, pin_memory=self._stream is not None)
        if self.clips is not None:
            torch.index_select(self.clips, 0, chosen, out=clips)
        else:
            self.packed.read(self.cuts[chosen.numpy()], clips.numpy())
        if self._stream is None:
            return _Fetched(clips.to(self.device), None)
        with torch.cuda.stream(self._stream):
            moved = clips.to(self.device, non_blocking=True)
            return _Fetched(moved, self._stream.record_event())


class _Fetched(NamedTuple):
    clips: Tensor
    #: When the GPU has them.
    arrived: torch.cuda.Event | None


def choose_place(size_bytes: int, device: torch.device) -> Place:
    """The first place with room: on the device, in the machine's memory, in the mapped file."""
    if size_bytes <= ROOM * device_bytes(device):
        return "device"
    return "host" if device.type == "cuda" and size_bytes <= ROOM * host_bytes() else "mapped"


def device_bytes(device: torch.device) -> int:
    """Free memory of a device; Apple's GPUs use the machine's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host_bytes()


def host_bytes() -> int:
    """Memory that processes may still take; all there is, where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(kilobytes)
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
