"""Gated recurrent units: the reset gate after the product of the state, or before it."""

import torch
from torch import Tensor, nn

from speechgru.model.cells.gru_loop import gru_sequence
from speechgru.model.cells.protocol import (
    Cell,
    Step,
    UnrolledCell,
    layer_products,
    orthogonal_gates,
    recurrent_matrix,
)


class GRU(Cell):
    """A gated recurrent layer with the reset gate after the product (arXiv 1406.1078v1, cuDNN).

        r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)
        n = tanh(W_n x + r * (U_n h)) h' = (1 - z) * n + z * h      (biases left out)

    3 (H I + H^2 + 2 H) parameters. `keep_bias` is added to the update gate's bias: z begins nearer
    to 1, and the layer with a longer memory.
    """

    #: Train on a processor through `gru_sequence`; false is torch's own loop, to compare with.
    own_gradient = True

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        orthogonal_gates(self.gru.get_parameter("weight_hh_l0"), hidden)
        self.gru.get_parameter("bias_ih_l0").data[hidden : 2 * hidden] += keep_bias

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, H) -> (B, T, H), (B, H)."""
        if self.own_gradient and self.training and x.device.type == "cpu":
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            return gru_sequence(x, state, *(self.gru.get_parameter(name) for name in names))
        y, last = self.gru(x, state.unsqueeze(0).contiguous())
        return y, last.squeeze(0)

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, H) -> (B, H), (B, H), gates."""
        of_input, of_state = layer_products(self.gru, x, state)
        (w_r, w_z, w_n), (u_r, u_z, u_n) = of_input.chunk(3, 1), of_state.chunk(3, 1)
        r, z = torch.sigmoid(w_r + u_r), torch.sigmoid(w_z + u_z)
        h = (1 - z) * torch.tanh(w_n + r * u_n) + z * state
        return Step(h, h, {"update": 1 - z, "reset": r})


class ChoGRU(UnrolledCell):
    """The gated recurrent layer of Cho et al. (2014, arXiv 1406.1078v3, equations 5 to 8).

        r = sigmoid(W_r x + U_r h + b_r)  (5)    z = sigmoid(W_z x + U_z h + b_z)  (6)
        n = tanh(W_n x + U_n (r * h) + b_n)  (8) h' = z * h + (1 - z) * n  (7)

    The reset gate acts on the state before its product. 3 (H I + H^2 + H) parameters.
    """

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.input = nn.Linear(inputs, 3 * hidden)  # r, z, n
        self.gates = recurrent_matrix(hidden, 2)
        self.candidate = recurrent_matrix(hidden)
        self.input.bias.data[hidden : 2 * hidden] += keep_bias

    def project(self, x: Tensor) -> Tensor:
        """(B, T, I) -> (B, T, 3 H)."""
        return self.input(x)

    def advance(self, projected: Tensor, state: Tensor) -> Step:
        """(B, 3 H), (B, H) -> (B, H), (B, H), gates."""
        of_gates, of_candidate = projected.split([2 * self.outputs, self.outputs], dim=1)
        r, z = torch.sigmoid(of_gates + self.gates(state)).chunk(2, dim=1)
        n = torch.tanh(of_candidate + self.candidate(r * state))
        h = z * state + (1 - z) * n
        return Step(h, h, {"update": 1 - z, "reset": r})
