"""Layers without a state: dropout between recurrent layers, and pooling over a clip."""

import torch
from torch import Tensor, nn

#: Weighted means in attention pooling, each of its own part of the features.
POOLING_HEADS = 4


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps (Gal and Ghahramani, 2016): (B, T, H) -> (B, T, H)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H); the identity outside training."""
        if not self.training or not self.probability:
            return x
        mask = nn.functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.probability)
        return x * mask


class AttentionPooling(nn.Module):
    """A weighted mean over the steps of a clip, with weights from the steps: (B, T, H) -> (B, H).

        w = softmax over t of U tanh(V x_t)    y = sum_t w_t x_t

    (Self-attentive pooling; Lin et al., 2017, arXiv 1703.03130, equation 1.) Each of `heads` parts
    of the features has weights of its own.
    """

    def __init__(self, hidden: int, heads: int = POOLING_HEADS) -> None:
        super().__init__()
        self.heads = next(n for n in range(min(heads, hidden), 0, -1) if hidden % n == 0)
        self.inner = nn.Linear(hidden, hidden // self.heads)
        self.score = nn.Linear(hidden // self.heads, self.heads, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, heads), sum 1 over the steps."""
        return torch.softmax(self.score(torch.tanh(self.inner(x))), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, H)."""
        by_head = x.unflatten(-1, (self.heads, -1))  # (B, T, heads, H / heads)
        return (self.weights(x).unsqueeze(-1) * by_head).sum(dim=1).flatten(1)
