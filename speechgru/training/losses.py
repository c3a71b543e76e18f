"""What training makes small."""

from torch import Tensor
from torch.nn import functional

from speechgru.training.batches import NO_TARGET


def smoothed_cross_entropy(
    log_posteriors: Tensor, of_labels: Tensor, targets: Tensor, smoothing: float
) -> Tensor:
    """(1 - e) -log p(target) + e mean over labels of -log p(label), over what is asked.

    Log-posteriors of outputs (N, V + U) and of labels (N, V); targets (N,), some `NO_TARGET`.
    """
    asked = targets != NO_TARGET
    count = asked.sum().clamp_min(1)
    hit = functional.nll_loss(log_posteriors, targets, ignore_index=NO_TARGET, reduction="sum")
    spread = -(of_labels.mean(dim=1) * asked).sum()
    return ((1 - smoothing) * hit + smoothing * spread) / count
