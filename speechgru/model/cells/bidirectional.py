"""A layer that hears a whole clip from both ends."""

import torch
from torch import Tensor

from speechgru.errors import UsageError
from speechgru.model.cells.protocol import Cell, Step


class Bidirectional(Cell):
    """Two cells, one forwards and one backwards in time; their outputs are added.

    (Schuster and Paliwal, 1997; the sum as in Deep Speech 2, Amodei et al., 2016, section 3.1.) The
    backward cell begins at the end of what it is given, from zeros: the answer holds for a whole
    clip alone, and there are no steps. The state is the forward cell's.
    """

    def __init__(self, ahead: Cell, back: Cell) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = ahead.inputs, ahead.outputs, ahead.state_size
        self.ahead, self.back = ahead, back

    @property
    def multiply_adds(self) -> int:
        """Those of both."""
        return self.ahead.multiply_adds + self.back.multiply_adds

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, *state_size) -> (B, T, H), (B, *state_size); T is the whole clip."""
        y, last = self.ahead(x, state)
        backwards, _ = self.back(x.flip(1), torch.zeros_like(state))
        return y + backwards.flip(1), last

    def step(self, x: Tensor, state: Tensor) -> Step:
        """There is none.

        Raises:
            UsageError: always.
        """
        raise UsageError("a bidirectional layer needs whole clips: it has no steps")

    def trace(self, x: Tensor, state: Tensor) -> Step:
        """As forward, with the gates of both."""
        ahead = self.ahead.trace(x, state)
        back = self.back.trace(x.flip(1), torch.zeros_like(state))
        gates = ahead.gates | {f"backward {n}": g.flip(1) for n, g in back.gates.items()}
        return Step(ahead.y + back.y.flip(1), ahead.state, gates)
