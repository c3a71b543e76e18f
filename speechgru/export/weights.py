"""A model's weights as an export holds them: normalisations folded in, and in 8 bits if asked."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.model.cells import LiGRU
from speechgru.model.fronts import CausalConv2d
from speechgru.model.network import SpeechGRU

#: Of smaller tensors the bytes do not matter, but the precision does.
FEWEST_ROUNDED = 1024


def folded(model: SpeechGRU) -> SpeechGRU:
    """A copy on the CPU whose batch normalisations only add a bias: the rest is in the weights.

    g (w x - m) / sqrt(v + e) + b = w' x + b' with w' = w g / sqrt(v + e), b' = b - m g / sqrt(...)
    """
    twin = copy.deepcopy(model).cpu().eval()
    for module in twin.modules():
        if isinstance(module, CausalConv2d):
            _fold(module.conv.weight, module.norm)
        elif isinstance(module, LiGRU):
            _fold(module.input.weight, module.norm)
    return twin


@torch.no_grad()
def _fold(weight: torch.Tensor, norm: torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) -> None:
    """Move the normalisation of a product's outputs into its weights (O, ...)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    norm.bias.sub_(norm.running_mean * scale)
    weight.mul_(scale.view(-1, *(1,) * (weight.ndim - 1)))
    norm.weight.fill_(1.0)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)


def rounded(model: SpeechGRU) -> SpeechGRU:
    """The same copy with the weights that an export in 8 bits has, as floats."""
    twin = folded(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            if is_rounded(tuple(parameter.shape)):
                numbers, scales = to_int8(parameter.numpy())
                parameter.copy_(torch.from_numpy(numbers * scales))
    return twin


def is_rounded(shape: tuple[int, ...]) -> bool:
    """Whether weights of this shape are kept in 8 bits: matrices and kernels that are large."""
    return len(shape) >= 2 and int(np.prod(shape)) >= FEWEST_ROUNDED


def to_int8(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Numbers of 8 bits and a scale for each output, numbers * scales nearest to the weights.

    The largest weight of an output is 127 times its scale.

    Shape:
        (O, ...) -> (O, ...), (O, 1, ...)
    """
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales
