"""What every layer of a stream is: (x, state) -> (y, state), whole or step by step."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Step(NamedTuple):
    """What one step gives: output (B, H), the new state (B, ...), and the gates' values by name.

    A gate is (B, units), from 0 to 1. In every cell "update" is the share of its state that the
    step replaces, whichever way round the paper has it.
    """

    y: Tensor
    state: Tensor
    gates: dict[str, Tensor]


class Cell(nn.Module, ABC):
    """A layer that carries a state: `inputs` I to `outputs` H.

    A state is one tensor of fixed shape (B, *state_size), zeros at the start of a recording, so
    that any chunking of the input gives the output of the whole.
    """

    inputs: int
    outputs: int
    #: Shape of a stream's state.
    state_size: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiplications by weights that one step of one stream takes; the cheap rest is left out.

        In most cells each weight of a matrix is used once.
        """
        return sum(p.numel() for p in self.parameters() if p.ndim >= 2)

    @abstractmethod
    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A sequence: (B, T, I), (B, *state_size) -> (B, T, H), (B, *state_size)."""

    @abstractmethod
    def step(self, x: Tensor, state: Tensor) -> Step:
        """One step by the equations: (B, I), (B, *state_size) -> (B, H), state, gates."""

    def trace(self, x: Tensor, state: Tensor) -> Step:
        """A sequence step by step: (B, T, I), state -> (B, T, H), state, gates (B, T, units)."""
        steps = []
        for column in x.unbind(dim=1):
            steps.append(self.step(column, state))
            state = steps[-1].state
        gates = {name: torch.stack([s.gates[name] for s in steps], 1) for name in steps[0].gates}
        return Step(torch.stack([s.y for s in steps], dim=1), state, gates)


class UnrolledCell(Cell):
    """A cell whose step needs the last one's answer: products of the input for all steps at once,
    then a loop.

    With 64 sequences of 50 steps the loop takes 1.2 times as long as torch.nn.GRU, whose loop on a
    processor is not much else.
    """

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step: (B, T, I) -> (B, T, ...)."""

    @abstractmethod
    def advance(self, projected: Tensor, state: Tensor) -> Step:
        """One step from its projected input: (B, ...), (B, *state_size) -> (B, H), state, gates."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, *state_size) -> (B, T, H), (B, *state_size)."""
        ys = []
        for column in self.project(x).unbind(dim=1):
            y, state, _ = self.advance(column, state)
            ys.append(y)
        return torch.stack(ys, dim=1), state

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, *state_size) -> (B, H), state, gates."""
        return self.advance(self.project(x.unsqueeze(1)).squeeze(1), state)


def layer_products(layer: nn.RNNBase, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer of torch.nn adds up for its gates: W x + b and U h + c, each (B, gates)."""
    weights = [layer.get_parameter(f"{name}_l0") for name in ("weight_ih", "bias_ih")]
    recurrent = [layer.get_parameter(f"{name}_l0") for name in ("weight_hh", "bias_hh")]
    return nn.functional.linear(x, *weights), nn.functional.linear(h, *recurrent)


def recurrent_matrix(hidden: int, gates: int = 1) -> nn.Linear:
    """Weights from a state to `gates` gates, without bias; orthogonal for each gate.

    So a gradient's length neither grows nor shrinks at first (Saxe et al., 2014, arXiv 1312.6120).
    """
    linear = nn.Linear(hidden, gates * hidden, bias=False)
    orthogonal_gates(linear.weight, hidden)
    return linear


def orthogonal_gates(weight: Tensor, hidden: int) -> None:
    """Make each gate's part of a recurrent weight (gates * hidden, ...) orthogonal, in place."""
    for gate in weight.data.split(hidden):
        nn.init.orthogonal_(gate)
