"""Dropout between the layers of a sequence."""

from torch import Tensor, nn


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
