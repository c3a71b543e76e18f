"""Layers that see the whole batch, where several processes have a part of it each."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from speechgru.model.layers import LockedDropout
from speechgru.training.distribution import Ranks


class SharedBatchNorm(_BatchNorm):
    """As torch's batch normalisation (Ioffe and Szegedy, 2015), with the statistics of all parts.

    With N parts of one size, mean = sum of means / N, and
    var = sum of (var_i + (mean_i - mean)^2) / N. Alike on every device, which torch's
    SyncBatchNorm, for CUDA alone, is not.
    """

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.ranks = ranks

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        others = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x, others, correction=0)
        whole_mean = self.ranks.mean(mean)
        whole_var = self.ranks.mean(var + (mean - whole_mean).square())
        self._keep(whole_mean.detach(), whole_var.detach(), self.ranks.size * x.numel())
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = self.weight * torch.rsqrt(whole_var + self.eps)
        shift = self.bias - whole_mean * scale
        return torch.addcmul(shift.view(shape), x, scale.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, var: Tensor, numbers: int) -> None:
        """The running statistics; the variance without bias, as torch keeps it."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = numbers // len(mean)
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / max(1, count - 1)), self.momentum)


class SharedDropout(nn.Module):
    """The part of the dropout's masks that is one's own: each process draws them for all rows."""

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
    """Let every batch normalisation and dropout of a model see the whole batch, in place."""
    if ranks.size == 1:
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SharedBatchNorm(child, ranks).to(child.weight.device))
            elif isinstance(child, nn.Dropout | LockedDropout):
                setattr(parent, name, SharedDropout(child, ranks))
