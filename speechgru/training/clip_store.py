"""Where the training clips are stored: on the device, in the host's memory, or in a mapped file."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from speechgru.audio.pcm import Packed
from speechgru.corpora.corpus import Example
from speechgru.corpora.packed import PackedAudio

Place = Literal["device", "host", "mapped"]

#: Share of the free memory that the clips may take.
MEMORY_SHARE = 0.5
#: Clips per block when all clips are processed.
BLOCK_CLIPS = 1024


class ClipStore:
    """Clips of one length as 16-bit samples, copied to the device as they are needed.

    They are on the device if they fit there. Otherwise a thread fetches them one batch ahead, from
    the host's memory or the packed file; for a GPU through pinned memory, while it computes the
    previous batch.

    Args:
        place: where to store the clips; "auto" is the first place where they fit.
    """

    def __init__(
        self,
        packed: PackedAudio,
        examples: Sequence[Example],
        clip_samples: int,
        device: torch.device,
        place: Place | Literal["auto"] = "auto",
    ) -> None:
        self.packed, self.clip_samples, self.device = packed, clip_samples, device
        self.cuts = packed.cuts(examples, clip_samples)
        self.place = choose_place(self.size_bytes, device) if place == "auto" else place
        self.clips: Tensor | None = None
        if self.place != "mapped":
            home = device if self.place == "device" else torch.device("cpu")
            self.clips = torch.from_numpy(self.read(np.arange(len(self)))).to(home)
        self._prefetched: tuple[Tensor, Future[_Fetched]] | None = None
        self._thread = ThreadPoolExecutor(1, "clips") if self.place != "device" else None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and self._thread else None

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def prefetches(self) -> bool:
        """Whether `prefetch` does anything: whether clips are fetched by a thread."""
        return self._thread is not None

    @property
    def size_bytes(self) -> int:
        """Size of all clips."""
        return 2 * len(self) * self.clip_samples

    def __str__(self) -> str:
        where = {
            "device": "in memory" if self.device.type == "cpu" else f"on {self.device}",
            "host": "in the host's memory, fetched one batch ahead",
            "mapped": "in the packed file, fetched one batch ahead",
        }
        return f"{len(self):,} clips, {self.size_bytes / 1e9:.2f} GB, {where[self.place]}"

    def blocks(self) -> Iterator[Packed]:
        """All clips in order, `BLOCK_CLIPS` at a time: (N, clip_samples)."""
        for start in range(0, len(self), BLOCK_CLIPS):
            yield self.read(np.arange(start, min(start + BLOCK_CLIPS, len(self))))

    def read(self, indices: np.ndarray) -> Packed:
        """Clips from the packed file: (B,) -> (B, clip_samples)."""
        return self.packed.read(
            self.cuts[indices], np.empty((len(indices), self.clip_samples), np.int16)
        )

    def get(self, indices: Tensor) -> Tensor:
        """Clips on the device, by indices on the host: (B,) -> (B, S) int16."""
        if self.clips is not None and self.clips.device == self.device and self._thread is None:
            return self.clips[indices.to(self.device, non_blocking=True)]
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None and torch.equal(prefetched[0], indices):
            fetched = prefetched[1].result()
        else:
            fetched = self._fetch(indices)
        if fetched.event is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(fetched.event)
            fetched.clips.record_stream(stream)
        return fetched.clips

    def prefetch(self, indices: Tensor) -> None:
        """Start to fetch the clips that `get` is called with next."""
        if self._thread is not None:
            self._prefetched = indices, self._thread.submit(self._fetch, indices)

    def _fetch(self, indices: Tensor) -> "_Fetched":
        shape = len(indices), self.clip_samples
        clips = torch.empty(shape, dtype=torch.int16, pin_memory=self._stream is not None)
        if self.clips is not None:
            torch.index_select(self.clips, 0, indices, out=clips)
        else:
            self.packed.read(self.cuts[indices.numpy()], clips.numpy())
        if self._stream is None:
            return _Fetched(clips.to(self.device), None)
        with torch.cuda.stream(self._stream):
            on_device = clips.to(self.device, non_blocking=True)
            return _Fetched(on_device, self._stream.record_event())


class _Fetched(NamedTuple):
    clips: Tensor
    #: Recorded when the copy to the GPU is complete; None on other devices.
    event: torch.cuda.Event | None


def choose_place(size_bytes: int, device: torch.device) -> Place:
    """The first place where clips of this size fit: the device, the host, the mapped file."""
    if size_bytes <= MEMORY_SHARE * device_bytes(device):
        return "device"
    return (
        "host" if device.type == "cuda" and size_bytes <= MEMORY_SHARE * host_bytes() else "mapped"
    )


def device_bytes(device: torch.device) -> int:
    """Free memory of a device; Apple's GPUs use the host's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host_bytes()


def host_bytes() -> int:
    """Memory of this machine that is available to processes."""
    return int(psutil.virtual_memory().available)
