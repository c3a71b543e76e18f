"""Fronts: the layers from frames to steps, below the recurrent layers."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

FrontName = Literal["stack", "conv"]
FRONT_NAMES: tuple[str, ...] = get_args(FrontName)
#: The network runs on every second frame, 50 times a second.
FRAMES_PER_STEP = 2
#: Convolutions halve the bands until this many are left.
_FEWEST_BANDS = 5


class StackFront(nn.Module):
    """Joins frames in pairs: (B, 2 T, F) -> (B, T, 2 F)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features * FRAMES_PER_STEP
        self.state_sizes: dict[str, tuple[int, ...]] = {}
        self.multiply_adds = 0

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 2 T, F) -> (B, T, 2 F); there is no state."""
        batch, frames, features = x.shape
        return x.reshape(batch, frames // FRAMES_PER_STEP, features * FRAMES_PER_STEP), {}


class CausalConv2d(nn.Module):
    """A convolution over frames and bands that sees no frame after the last one of its step.

    (B, C, T, F) -> (B, C', T // stride, F // band_stride). The state is the input's last
    `kernel - stride` frames, so that output t ends with frame stride * (t + 1) - 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bands: int,
        kernel: int = 5,
        band_kernel: int = 5,
        stride: int = 1,
        band_stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.state_size: tuple[int, ...] = (inputs, kernel - stride, bands)
        self.stride = stride
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            (kernel, band_kernel),
            stride=(stride, band_stride),
            padding=(0, band_kernel // 2),
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(outputs)

    @property
    def multiply_adds(self) -> int:
        """Multiplications by weights for one frame of the output."""
        band_stride = self.conv.stride[1]
        return self.conv.weight.numel() * math.ceil(self.state_size[2] / band_stride)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, F), (B, C, K, F) -> (B, C', T', F'), state; T is a multiple of the stride."""
        padded = torch.cat([state.to(x.dtype), x], dim=2)
        if self.training and x.device.type == "cpu":  # a fifth faster there, gradient included
            padded = padded.contiguous(memory_format=torch.channels_last)
        context = self.state_size[1]
        y = nn.functional.relu(self.norm(self.conv(padded)))
        return y, padded[:, :, padded.shape[2] - context :].to(state.dtype)


class ConvFront(nn.Module):
    """Causal convolutions over frames and bands: (B, 2 T, F) -> (B, T, C F').

    Each halves the bands until few are left; the first one also halves the frame rate.
    """

    def __init__(self, bands: int, channels: Sequence[int], kernel: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.state_sizes: dict[str, tuple[int, ...]] = {}
        inputs = 1
        for i, outputs in enumerate(channels):
            band_stride = 2 if bands > _FEWEST_BANDS else 1
            stride = FRAMES_PER_STEP if i == 0 else 1
            conv = CausalConv2d(
                inputs, outputs, bands, kernel, stride=stride, band_stride=band_stride
            )
            self.convs.append(conv)
            self.state_sizes[f"conv{i}"] = conv.state_size
            inputs, bands = outputs, math.ceil(bands / band_stride)
        self.size = inputs * bands

    @property
    def multiply_adds(self) -> int:
        """Multiplications by weights in one step."""
        return sum(conv.multiply_adds for conv in self._convs())

    def _convs(self) -> Iterable[CausalConv2d]:
        return (conv for conv in self.convs if isinstance(conv, CausalConv2d))

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 2 T, F) -> (B, T, C F'), and the last frames of each convolution's input."""
        x, new_state = x.unsqueeze(1), {}
        for i, conv in enumerate(self.convs):
            x, new_state[f"conv{i}"] = conv(x, state[f"conv{i}"])
        return x.transpose(1, 2).flatten(2), new_state
