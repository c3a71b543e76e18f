"""Processes that train one model together, each with its share of the rows of every batch.

`speechgru train --devices N` or torchrun starts them, and they find each other by the environment
that torchrun sets. All draw the same random numbers and take the same decisions. The layers and
random numbers of a batch that they share are here, too.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from speechgru.errors import SpeechGRUError, UsageError
from speechgru.model.layers import LockedDropout

#: How long a process may keep the others waiting, for example while it decodes a large corpus.
TIMEOUT = timedelta(hours=2)


class LostProcessError(SpeechGRUError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Ranks:
    """This process, number `rank` of `size`; only number 0 writes files and messages."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """This process's rows of a whole batch; `rows` must be a multiple of `size`."""
        each = rows // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one dtype by their mean over the processes, in one exchange."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _lost_process_errors():
            distributed.all_reduce(flat)
        flat /= self.size
        means = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            tensors, [mean.view_as(t) for mean, t in zip(means, tensors, strict=True)]
        )

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes, differentiable."""
        return _Mean.apply(tensor, self.size) if self.size > 1 else tensor

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order: (B / size, ...) -> (B, ...)."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        shares = [torch.empty_like(rows) for _ in range(self.size)]
        with _lost_process_errors():
            distributed.all_gather(shares, rows)
        return torch.cat(shares)

    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of process 0."""
        if self.size > 1:
            with _lost_process_errors():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def broadcast(self, *numbers: float) -> Sequence[float]:
        """Process 0's values of these numbers, so that all take the same decision."""
        if self.size == 1:
            return numbers
        values = torch.tensor(numbers, dtype=torch.double, device=_exchange_device())
        with _lost_process_errors():
            distributed.broadcast(values, 0)
        return values.tolist()


#: A process that trains by itself.
ALONE = Ranks()


@contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that the environment names; `ALONE` if it names none.

    Raises:
        UsageError: the environment is not what torchrun sets.
        LostProcessError: the others did not join.
    """
    if not is_one_of_several():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    except ValueError as error:
        raise UsageError(
            f"the environment does not say where the processes meet: {error}"
        ) from error
    except RuntimeError as error:
        raise LostProcessError(f"the other processes did not join: {_first_line(error)}") from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def is_one_of_several() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class _Mean(torch.autograd.Function):
    """y = 1/N sum x over the processes: the gradient of x is the mean of the gradients of y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.size = size
        return _all_mean(x, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _all_mean(gradients[0], ctx.size), None


def _all_mean(x: Tensor, size: int) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    with _lost_process_errors():
        distributed.all_reduce(total)
    return total / size


@contextmanager
def _lost_process_errors() -> Iterator[None]:
    """Raise LostProcessError when an exchange fails because a process has ended."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            f"another process of this run has ended: {_first_line(error)}"
        ) from error


def _exchange_device() -> torch.device:
    on_cuda = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


class RowGenerator(torch.Generator):
    """A random generator for the rows of a batch, share number `part` of `parts`.

    Generators with the same seed that differ only in `part` agree on every row of a batch, and
    advance alike: N processes with a share each draw what one process draws for all rows.
    """

    part: int
    parts: int

    def __new__(cls, device: torch.device | str = "cpu", part: int = 0, parts: int = 1) -> Self:
        """`torch.Generator` takes its device here, not in `__init__`."""
        self: Self = super().__new__(cls, device)  # type: ignore[call-arg]
        self.part, self.parts = part, parts
        return self


def random_rows(
    draw: Callable[..., Tensor],
    size: tuple[int, ...],
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Numbers from `torch.rand` or the like; the first axis of `size` is this process's rows."""
    options = {"generator": generator, "device": device}
    if not isinstance(generator, RowGenerator) or generator.parts == 1:
        return draw(size, **options)
    rows = size[0]
    numbers = draw((rows * generator.parts, *size[1:]), **options)
    return numbers[rows * generator.part : rows * (generator.part + 1)]


class SharedBatchNorm(_BatchNorm):
    """torch's batch normalization (Ioffe and Szegedy, 2015) with statistics of the whole batch.

    With N shares of the same size, mean = sum of means / N, and
    var = sum of (var_i + (mean_i - mean)^2) / N. The same on every device, whereas torch's
    SyncBatchNorm needs CUDA.
    """

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.ranks = ranks

    def _check_input_dim(self, input: Tensor) -> None:
        """Any: the norm that this one replaces has checked it."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        others = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x, others, correction=0)
        whole_mean = self.ranks.mean(mean)
        whole_var = self.ranks.mean(var + (mean - whole_mean).square())
        self._update(whole_mean.detach(), whole_var.detach(), self.ranks.size * x.numel())
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = self.weight * torch.rsqrt(whole_var + self.eps)
        shift = self.bias - whole_mean * scale
        return torch.addcmul(shift.view(shape), x, scale.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor, numbers: int) -> None:
        """Update the running statistics, like torch with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = numbers // len(mean)
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / max(1, count - 1)), self.momentum)


class SharedDropout(nn.Module):
    """Dropout that draws the masks of the whole batch and applies this process's share."""

    def __init__(self, dropout: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.dropout, self.ranks = dropout, ranks

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training:
            return x
        rows = len(x) * self.ranks.size
        masks = self.dropout(x.new_ones(rows, *x.shape[1:]))
        return x * masks[self.ranks.share(rows)]


def share_layers(model: nn.Module, ranks: Ranks) -> None:
    """Let all batch normalizations and dropouts of a model work on the whole batch, in place."""
    if ranks.size == 1:
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SharedBatchNorm(child, ranks).to(child.weight.device))
            elif isinstance(child, nn.Dropout | LockedDropout):
                setattr(parent, name, SharedDropout(child, ranks))
