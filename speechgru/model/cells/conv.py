"""The streaming convolution."""

import math

import torch
from torch import Tensor, nn


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
        """Multiplications by weights that one frame of its output takes."""
        band_stride = self.conv.stride[1]
        return self.conv.weight.numel() * math.ceil(self.state_size[2] / band_stride)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, F), (B, C, K, F) -> (B, C', T', F'), state; T is a multiple of the stride."""
        padded = torch.cat([state.to(x.dtype), x], dim=2)
        if self.training and x.device.type == "cpu":  # a fifth faster there, gradient included
            padded = padded.contiguous(memory_format=torch.channels_last)
        kept = self.state_size[1]
        y = nn.functional.relu(self.norm(self.conv(padded)))
        return y, padded[:, :, padded.shape[2] - kept :].to(state.dtype)
