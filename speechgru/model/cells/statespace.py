"""A diagonal state-space layer whose dynamics depend on the input."""

import math

import torch
from torch import Tensor, nn

from speechgru.model.cells.cell import Cell, Step
from speechgru.model.cells.scan import linear_recurrence

#: N, the states of each channel.
STATES = 8
#: The range of the channels' initial time constants, in steps: 1 / delta.
SLOWEST_STEPS, FASTEST_STEPS = 1000.0, 10.0


class SelectiveSSM(Cell):
    """A selective state space (Mamba's S6; Gu and Dao, 2023, arXiv 2312.00752, algorithm 2).

        u, g = W_u x, W_g x                     delta = softplus(W_d u + b_d)   (H,)
        A = -exp(a)  (H, N)                     B, C = W_B u, W_C u             (N,)
        h' = exp(delta A) * h + delta u B       (H, N), equation 2a with exp(delta A) of equation 4
        y = W_o ((h' C + D * u) * silu(g))

    Without Mamba's convolution, which the fronts have; W_d is of low rank. A channel with N = 1 and
    A = -1 is a gated unit with update gate 1 - exp(-delta) (theorem 1 there). The transition is
    below 1 for any input, so the state is bounded.
    """

    def __init__(self, inputs: int, hidden: int, states: int = STATES) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden, states)
        self.rank = max(1, hidden // 16)
        self.input = nn.Linear(inputs, 2 * hidden, bias=False)  # u, g
        self.selection = nn.Linear(hidden, self.rank + 2 * states, bias=False)  # delta, B, C
        self.delta = nn.Linear(self.rank, hidden)
        # Flat, as weight decay applies to matrices, and these do not weight a sum.
        rates = torch.arange(1.0, states + 1).log().repeat(hidden)
        self.log_rates = nn.Parameter(rates)
        self.skip = nn.Parameter(torch.ones(hidden))
        self.output = nn.Linear(hidden, hidden, bias=False)
        low, high = math.log(1 / SLOWEST_STEPS), math.log(1 / FASTEST_STEPS)
        delta = torch.empty(hidden).uniform_(low, high).exp()
        self.delta.bias.data = torch.log(torch.expm1(delta))  # the inverse of softplus

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, H, N) -> (B, T, H), (B, H, N)."""
        keep, new, read, u, gate = self._terms(x)
        h = linear_recurrence(keep, new, state)
        return self._output(h, read, u, gate), h[:, -1]

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, H, N) -> (B, H), (B, H, N), gates."""
        keep, new, read, u, gate = self._terms(x)
        h = keep * state + new
        return Step(self._output(h, read, u, gate), h, {"update": 1 - keep.mean(dim=-1)})

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Factor of the state, what is added (..., H, N), C (..., N), u and the gate (..., H)."""
        states = self.state_size[1]
        u, gate = self.input(x).chunk(2, dim=-1)
        delta, write, read = self.selection(u).split([self.rank, states, states], dim=-1)
        delta = nn.functional.softplus(self.delta(delta))
        rates = self.log_rates.exp().view(self.state_size)
        keep = torch.exp(-delta.unsqueeze(-1) * rates)
        return keep, (delta * u).unsqueeze(-1) * write.unsqueeze(-2), read, u, gate

    def _output(self, h: Tensor, read: Tensor, u: Tensor, gate: Tensor) -> Tensor:
        y = (h * read.unsqueeze(-2)).sum(dim=-1) + self.skip * u
        return self.output(y * nn.functional.silu(gate))
