"""The simple recurrent network."""

import torch
from torch import Tensor, nn

from speechgru.model.cells.protocol import Cell, Step, layer_products, orthogonal_gates


class RNN(Cell):
    """A recurrent layer without gates (Elman, 1990; Graves et al., 2013, arXiv 1303.5778, eq. 1).

        h' = tanh(W x + b + U h + c)

    H I + H^2 + 2 H parameters.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.rnn = nn.RNN(inputs, hidden, batch_first=True)
        orthogonal_gates(self.rnn.get_parameter("weight_hh_l0"), hidden)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, H) -> (B, T, H), (B, H)."""
        y, last = self.rnn(x, state.unsqueeze(0).contiguous())
        return y, last.squeeze(0)

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, H) -> (B, H), (B, H); it has no gates."""
        of_input, of_state = layer_products(self.rnn, x, state)
        h = torch.tanh(of_input + of_state)
        return Step(h, h, {})
