"""Recurrent units with one gate."""

import torch
from torch import Tensor, nn

from speechgru.model.cells.protocol import Step, UnrolledCell, recurrent_matrix


class MGU(UnrolledCell):
    """The minimal gated unit (Zhou et al., 2016, arXiv 1603.09420, table 1).

        f = sigmoid(W_f x + U_f h + b_f)
        n = tanh(W_n x + U_n (f * h) + b_n)    h' = (1 - f) * h + f * n

    A GRU whose two gates are one. 2 (H I + H^2 + H) parameters. `keep_bias` is taken from the
    gate's bias, as here 0 keeps the state.
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
        of_gate, of_candidate = projected.chunk(2, dim=1)
        f = torch.sigmoid(of_gate + self.gate(state))
        n = torch.tanh(of_candidate + self.candidate(f * state))
        h = (1 - f) * state + f * n
        return Step(h, h, {"update": f})


class LiGRU(UnrolledCell):
    """The light gated recurrent unit (Ravanelli et al., 2018, arXiv 1803.10225, section III), with
    the normalisation that keeps it stable (Moumen and Parcollet, 2023, arXiv 2302.10144).

        u_z, u_n = LN(U h)    z = sigmoid(BN(W_z x) + u_z)    n = relu(BN(W_n x) + u_n)
        h' = z * h + (1 - z) * n

    2 (H I + H^2 + 2 H) parameters. BN is of the input's products over all steps of a batch in
    training, and by its running statistics else: fixed numbers, so that a stream gives what the
    whole gives. LN, over both gates and without weights of its own, is what bounds the state:
    relu(BN(W_n x) + U_n h), as first published, grows without end once U_n lengthens some h, and a
    stream is long. In the recipe `cells`, it was no longer finite after 80 steps of training.
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
