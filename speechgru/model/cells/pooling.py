"""One vector for a whole clip."""

import torch
from torch import Tensor, nn

#: Weighted means, each of its share of the features.
HEADS = 4


class AttentionPooling(nn.Module):
    """A weighted mean of a clip's steps, the weights by the steps themselves: (B, T, H) -> (B, H).

        w = softmax over t of U tanh(V x_t)    y = sum_t w_t x_t

    (self-attentive pooling; Lin et al., 2017, arXiv 1703.03130, equation 1), with weights of their
    own for each of `heads` parts of the features.
    """

    def __init__(self, hidden: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = next(n for n in range(min(heads, hidden), 0, -1) if hidden % n == 0)
        self.inner = nn.Linear(hidden, hidden // self.heads)
        self.score = nn.Linear(hidden // self.heads, self.heads, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, heads), sum 1 over the steps."""
        return torch.softmax(self.score(torch.tanh(self.inner(x))), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, H)."""
        parts = x.unflatten(-1, (self.heads, -1))  # (B, T, heads, H / heads)
        return (self.weights(x).unsqueeze(-1) * parts).sum(dim=1).flatten(1)
