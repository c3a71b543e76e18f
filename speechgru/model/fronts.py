"""What makes steps of frames: the layers below the recurrent ones, as streams."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, cast, get_args

from torch import Tensor, nn

from speechgru.model.cells import CausalConv2d

FrontName = Literal["stack", "conv"]
FRONT_NAMES: tuple[str, ...] = get_args(FrontName)
#: Frames to a step: the network answers every second frame, 50 times a second.
FRAMES_PER_STEP = 2


class StackFront(nn.Module):
    """Frames joined in pairs: (B, 2 T, F) -> (B, T, 2 F)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features * FRAMES_PER_STEP
        self.state_sizes: dict[str, tuple[int, ...]] = {}
        self.multiply_adds = 0

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 2 T, F) -> (B, T, 2 F); carries nothing."""
        batch, frames, features = x.shape
        return x.reshape(batch, frames // FRAMES_PER_STEP, features * FRAMES_PER_STEP), {}


class ConvFront(nn.Module):
    """Causal convolutions over frames and bands: (B, 2 T, F) -> (B, T, C F').

    Each halves the bands until few are left; the first one halves the frames to steps.
    """

    def __init__(self, bands: int, channels: Sequence[int], kernel: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.state_sizes: dict[str, tuple[int, ...]] = {}
        inputs = 1
        for i, outputs in enumerate(channels):
            band_stride = 2 if bands > 5 else 1
            stride = FRAMES_PER_STEP if i == 0 else 1
            conv = CausalConv2d(
                inputs, outputs, bands, kernel, stride=stride, band_stride=band_stride
            )
            self.convs.append(conv)
            self.state_sizes[f"conv{i}"] = conv.state_size
            inputs, bands = outputs, math.ceil(bands / band_stride)
        self.size = inputs * bands
        #: Multiplications by weights that one step takes.
        self.multiply_adds = sum(conv.multiply_adds for conv in self._convs())

    def _convs(self) -> Iterable[CausalConv2d]:
        return cast("Iterable[CausalConv2d]", self.convs)

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 2 T, F) -> (B, T, C F'), and the convolutions' last frames."""
        x, new_state = x.unsqueeze(1), {}
        for i, conv in enumerate(self.convs):
            x, new_state[f"conv{i}"] = conv(x, state[f"conv{i}"])
        return x.transpose(1, 2).flatten(2), new_state
