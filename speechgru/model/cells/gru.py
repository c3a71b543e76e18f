"""Gated recurrent units: the usual GRU, the original one, and two with fewer gates."""

import torch
from torch import Tensor, nn

from speechgru.model.cells.cell import (
    Cell,
    Step,
    UnrolledCell,
    gate_products,
    make_orthogonal,
    recurrent_matrix,
)
from speechgru.model.cells.gru_loop import gru_sequence


class GRU(Cell):
    """A gated recurrent layer with the reset gate after the product (arXiv 1406.1078v1, cuDNN).

        r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)
        n = tanh(W_n x + r * (U_n h)) h' = (1 - z) * n + z * h      (biases left out)

    3 (H I + H^2 + 2 H) parameters. `keep_bias` is added to the bias of the update gate, so that z
    starts closer to 1 and the memory is longer.
    """

    #: Train on a processor through `gru_sequence`; False: torch's own loop, for comparison.
    own_gradient = True

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        make_orthogonal(self.gru.get_parameter("weight_hh_l0"), hidden)
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
        from_input, from_state = gate_products(self.gru, x, state)
        (w_r, w_z, w_n), (u_r, u_z, u_n) = from_input.chunk(3, 1), from_state.chunk(3, 1)
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
        to_gates, to_candidate = projected.split([2 * self.outputs, self.outputs], dim=1)
        r, z = torch.sigmoid(to_gates + self.gates(state)).chunk(2, dim=1)
        n = torch.tanh(to_candidate + self.candidate(r * state))
        h = z * state + (1 - z) * n
        return Step(h, h, {"update": 1 - z, "reset": r})


class MGU(UnrolledCell):
    """The minimal gated unit (Zhou et al., 2016, arXiv 1603.09420, table 1).

        f = sigmoid(W_f x + U_f h + b_f)
        n = tanh(W_n x + U_n (f * h) + b_n)    h' = (1 - f) * h + f * n

    A GRU with one gate in place of two. 2 (H I + H^2 + H) parameters. `keep_bias` is subtracted
    from the gate's bias, as here a gate of 0 keeps the state.
    """

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.input = nn.Linear(inputs, 2 * hidden)  # f, n
        self.gate = recurrent_matrix(hidden)
        self.candidate = recurrent_matrix(hidden)
        self.input.bias.data[:hidden] -= keep_bias

    def project(self, x: Tensor) -> Tensor:
        """(B, T, I) -> (B, T, 2 H)."""
        return self.input(x)

    def advance(self, projected: Tensor, state: Tensor) -> Step:
        """(B, 2 H), (B, H) -> (B, H), (B, H), gates."""
        to_gate, to_candidate = projected.chunk(2, dim=1)
        f = torch.sigmoid(to_gate + self.gate(state))
        n = torch.tanh(to_candidate + self.candidate(f * state))
        h = (1 - f) * state + f * n
        return Step(h, h, {"update": f})


class LiGRU(UnrolledCell):
    """The light gated recurrent unit (Ravanelli et al., 2018, arXiv 1803.10225, section III), with
    the normalization that keeps it stable (Moumen and Parcollet, 2023, arXiv 2302.10144).

        u_z, u_n = LN(U h)    z = sigmoid(BN(W_z x) + u_z)    n = relu(BN(W_n x) + u_n)
        h' = z * h + (1 - z) * n

    2 (H I + H^2 + 2 H) parameters. In training BN is over all steps of a batch, otherwise by its
    running statistics: constants, so that a stream gives what the whole gives. LN, over both gates
    and without weights, bounds the state: as first published, relu(BN(W_n x) + U_n h) grows without
    end once U_n lengthens some h, and streams are long. In the recipe `cells` it was no longer
    finite after 80 training steps.
    """

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.input = nn.Linear(inputs, 2 * hidden, bias=False)  # z, n
        self.norm = nn.BatchNorm1d(2 * hidden)
        self.recurrent = recurrent_matrix(hidden, 2)
        self.recurrent_norm = nn.LayerNorm(2 * hidden, elementwise_affine=False)
        self.norm.bias.data[:hidden] += keep_bias

    def project(self, x: Tensor) -> Tensor:
        """(B, T, I) -> (B, T, 2 H)."""
        products = self.input(x)
        return self.norm(products.flatten(0, 1)).view_as(products)

    def advance(self, projected: Tensor, state: Tensor) -> Step:
        """(B, 2 H), (B, H) -> (B, H), (B, H), gates."""
        z, n = (projected + self.recurrent_norm(self.recurrent(state))).chunk(2, dim=1)
        z, n = torch.sigmoid(z), torch.relu(n)
        h = z * state + (1 - z) * n
        return Step(h, h, {"update": 1 - z})
