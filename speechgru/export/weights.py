"""A model's weights as they are exported: normalizations folded in, and optionally in 8 bits."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.model.cells import LiGRU
from speechgru.model.fronts import CausalConv2d
from speechgru.model.network import SpeechGRU

#: Smaller tensors are stored in half precision: they have few numbers, but those matter more.
MIN_ROUNDED_SIZE = 1024

#: The relative error of a number of half precision, but for the smallest ones.
_HALF_PRECISION = 2**-11


def folded(model: SpeechGRU) -> SpeechGRU:
    """A copy on the CPU whose batch normalizations only add a bias; the rest is in the weights.

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
    """Fold the normalization of a product's outputs into its weights (O, ...)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    norm.bias.sub_(norm.running_mean * scale)
    weight.mul_(scale.view(-1, *(1,) * (weight.ndim - 1)))
    norm.weight.fill_(1.0)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)


def rounded(model: SpeechGRU) -> SpeechGRU:
    """The same copy with trained numbers rounded as in an int8 export, as floats."""
    twin = folded(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            if is_rounded(tuple(parameter.shape)):
                numbers, scales = to_int8(parameter.numpy())
                parameter.copy_(torch.from_numpy(numbers * scales))
            else:
                parameter.copy_(torch.from_numpy(to_half(parameter.numpy())))
    return twin


def is_rounded(shape: tuple[int, ...]) -> bool:
    """Whether weights of this shape are stored in 8 bits: large matrices and kernels."""
    return len(shape) >= 2 and int(np.prod(shape)) >= MIN_ROUNDED_SIZE


def to_int8(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """8-bit integers and a scale per output, so that integers * scales is nearest to the weights.

    The largest weight of an output becomes 127. Scales are numbers of half precision, unless that
    is too coarse for one.

    Shape:
        (O, ...) -> (O, ...), (O, 1, ...)
    """
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    half = to_half(scales)
    if np.allclose(half, scales, rtol=_HALF_PRECISION, atol=0):
        scales = half
    return np.rint(weights / scales).astype(np.int8), scales


def to_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers of half precision, as float32; larger ones stay as they are."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(half), half, values)
