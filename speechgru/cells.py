"""The recurrent and the streaming convolutional layers: each (x, state) -> (y, state).

A layer's state is one tensor of fixed shape (B, ...), zeros at the start of a recording, so that
any chunking of the input gives the output of the whole.
"""

import torch
from torch import Tensor, nn


class GRU(nn.Module):
    """One gated recurrent layer (Cho et al., 2014), reset gate after the product as in cuDNN.

        r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)
        n = tanh(W_n x + r * (U_n h)) h' = (1 - z) * n + z * h      (biases left out)

    3 (H I + H^2 + 2 H) parameters.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        for gate in self.gru.get_parameter("weight_hh_l0").data.split(hidden):
            nn.init.orthogonal_(gate)

    @property
    def state_size(self) -> tuple[int, ...]:
        """Shape of a stream's state."""
        return (self.hidden,)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, H) -> (B, T, H), (B, H)."""
        y, last = self.gru(x, state.unsqueeze(0).contiguous())
        return y, last.squeeze(0)


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

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, F), (B, C, K, F) -> (B, C', T', F'), state; T is a multiple of the stride."""
        padded = torch.cat([state, x], dim=2)
        kept = self.state_size[1]
        y = nn.functional.relu(self.norm(self.conv(padded)))
        return y, padded[:, :, padded.shape[2] - kept :]
