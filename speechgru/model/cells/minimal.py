"""GRU and LSTM whose gates see the input alone, so that all steps can be computed at once."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from speechgru.model.cells.cell import Cell, Step
from speechgru.model.cells.scan import linear_recurrence


def positive(x: Tensor) -> Tensor:
    """The activation g of the candidates: x + 1/2 above 0, else sigmoid(x) (Feng, appendix B)."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


class _MinimalCell(Cell):
    """h' = keep * h + write * g(n), where both gates and n depend on the input alone."""

    def __init__(self, inputs: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.input = nn.Linear(inputs, (gates + 1) * hidden)  # the candidate is the last

    @abstractmethod
    def shares(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """The shares to keep and to write, from the gates' products: (..., G H) -> 2 x (..., H)."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, H) -> (B, T, H), (B, H)."""
        keep, new = self._terms(x)
        h = linear_recurrence(keep, new, state)
        return h, h[:, -1]

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, H) -> (B, H), (B, H), gates."""
        keep, new = self._terms(x)
        h = keep * state + new
        return Step(h, h, {"update": 1 - keep})

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of the last state, and what is added to it."""
        products = self.input(x)
        keep, write = self.shares(products[..., : -self.outputs])
        return keep, write * positive(products[..., -self.outputs :])


class MinGRU(_MinimalCell):
    """The minimal GRU (Feng et al., 2024, arXiv 2410.01201, section 3.1).

        z = sigmoid(W_z x + b_z)    n = g(W_n x + b_n)    h' = (1 - z) * h + z * n

    2 (H I + H) parameters. `keep_bias` is subtracted from the gate's bias, as here a gate of 0
    keeps the state.
    """

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__(inputs, hidden, 1)
        self.input.bias.data[:hidden] -= keep_bias

    def shares(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """1 - z and z."""
        return torch.sigmoid(-gates), torch.sigmoid(gates)


class MinLSTM(_MinimalCell):
    """The minimal LSTM with normalized gates (Feng et al., 2024, arXiv 2410.01201, section 3.2).

        f = sigmoid(W_f x + b_f)    i = sigmoid(W_i x + b_i)    n = g(W_n x + b_n)
        h' = f / (f + i) * h + i / (f + i) * n

    3 (H I + H) parameters. `keep_bias` is added to the forget gate's bias.
    """

    def __init__(self, inputs: int, hidden: int, keep_bias: float = 0.0) -> None:
        super().__init__(inputs, hidden, 2)
        self.input.bias.data[:hidden] += keep_bias

    def shares(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """f / (f + i) and i / (f + i), from their logarithms, as both may be very small."""
        f, i = gates.chunk(2, dim=-1)
        difference = nn.functional.logsigmoid(f) - nn.functional.logsigmoid(i)
        return torch.sigmoid(difference), torch.sigmoid(-difference)
