"""Processes that train one model together: each has a share of the rows of every batch.

They are started by `speechgru train --devices N` or by torchrun, and find each other by what it
sets in the environment. All draw the same random numbers and take the same decisions.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from speechgru.errors import SpeechGRUError, UsageError

#: As long as one process may keep the others waiting, as with the decoding of a large corpus.
PATIENCE = timedelta(hours=2)


class LostProcessError(SpeechGRUError):
    """Another process of the run is gone."""


@dataclass(frozen=True)
class Ranks:
    """This process, number `rank` of `size`; only number 0 writes."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """The rows of a whole batch that are this process's; `rows` is a multiple of `size`."""
        each = rows // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one type by their mean over the processes, in one exchange."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _losses_are_told():
            distributed.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]
        )

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes; a gradient flows back to each."""
        return _Mean.apply(tensor, self.size) if self.size > 1 else tensor

    def join(self, rows: Tensor) -> Tensor:
        """All processes' rows, in their order: (B / size, ...) -> (B, ...)."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        with _losses_are_told():
            distributed.all_gather(parts, rows)
        return torch.cat(parts)

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Take over what process 0 has in these tensors."""
        if self.size > 1:
            with _losses_are_told():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def told_by_first(self, *numbers: float) -> Sequence[float]:
        """What process 0 has for these numbers: so all decide alike."""
        if self.size == 1:
            return numbers
        told = torch.tensor(numbers, dtype=torch.double, device=_exchange_device())
        with _losses_are_told():
            distributed.broadcast(told, 0)
        return told.tolist()


#: A process that trains by itself.
ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes that the environment tells of; alone where it tells of none.

    Raises:
        UsageError: the environment is not what torchrun sets.
        LostProcessError: the others did not come.
    """
    if not is_one_of_several():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except ValueError as error:
        raise UsageError(
            f"the environment does not say where the processes meet: {error}"
        ) from error
    except RuntimeError as error:
        raise LostProcessError(f"the other processes did not come: {_first_line(error)}") from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def is_one_of_several() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class _Mean(torch.autograd.Function):
    """The mean over the processes of y = 1/N sum x: what is pulled at any y pulls at each x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.size = size
        return _all_mean(x, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _all_mean(gradients[0], ctx.size), None


def _all_mean(x: Tensor, size: int) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    with _losses_are_told():
        distributed.all_reduce(total)
    return total / size


@contextmanager
def _losses_are_told() -> Iterator[None]:
    """A process that is gone breaks the exchange."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            f"another process of this run is gone: {_first_line(error)}"
        ) from error


def _exchange_device() -> torch.device:
    on_cuda = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
