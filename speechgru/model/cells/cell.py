"""What every recurrent layer is: (x, state) -> (y, state), for a sequence or for a single step."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from speechgru.errors import UsageError


class Step(NamedTuple):
    """The result of one step: output (B, H), the new state (B, ...), and gate values by name.

    A gate is (B, units), from 0 to 1. In every cell "update" is the share of its state that the
    step replaces, whichever way round the paper defines it.
    """

    y: Tensor
    state: Tensor
    gates: dict[str, Tensor]


class Cell(nn.Module, ABC):
    """A layer that carries a state, from `inputs` I to `outputs` H features.

    The state is one tensor of fixed shape (B, *state_size), zeros at the start of a recording, so
    that any chunking of the input gives the output of the whole.
    """

    inputs: int
    outputs: int
    #: Shape of the state of one stream.
    state_size: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiplications by weights in one step of one stream; cheaper operations do not count.

        In most cells each weight of a matrix is used once.
        """
        return sum(p.numel() for p in self.parameters() if p.ndim >= 2)

    @abstractmethod
    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A sequence: (B, T, I), (B, *state_size) -> (B, T, H), (B, *state_size)."""

    @abstractmethod
    def step(self, x: Tensor, state: Tensor) -> Step:
        """One step, written as its equations: (B, I), (B, *state_size) -> (B, H), state, gates."""

    def trace(self, x: Tensor, state: Tensor) -> Step:
        """A sequence step by step: (B, T, I), state -> (B, T, H), state, gates (B, T, units)."""
        steps = []
        for x_t in x.unbind(dim=1):
            steps.append(self.step(x_t, state))
            state = steps[-1].state
        gates = {name: torch.stack([s.gates[name] for s in steps], 1) for name in steps[0].gates}
        return Step(torch.stack([s.y for s in steps], dim=1), state, gates)


class UnrolledCell(Cell):
    """A cell whose step needs the last one's output: input products for all steps, then a loop.

    With 64 sequences of 50 steps the loop takes 1.2 times as long as torch.nn.GRU, which on a
    processor is mostly a loop, too.
    """

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The products of the input, for every step: (B, T, I) -> (B, T, ...)."""

    @abstractmethod
    def advance(self, projected: Tensor, state: Tensor) -> Step:
        """One step from its projected input: (B, ...), (B, *state_size) -> (B, H), state, gates."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, *state_size) -> (B, T, H), (B, *state_size)."""
        ys = []
        for projected in self.project(x).unbind(dim=1):
            y, state, _ = self.advance(projected, state)
            ys.append(y)
        return torch.stack(ys, dim=1), state

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, *state_size) -> (B, H), state, gates."""
        return self.advance(self.project(x.unsqueeze(1)).squeeze(1), state)


class Bidirectional(Cell):
    """Two cells, one forwards and one backwards in time, whose outputs are added.

    (Schuster and Paliwal, 1997; the sum as in Deep Speech 2, Amodei et al., 2016, section 3.1.) The
    backward cell starts from zeros at the end of its input, so the input has to be a whole clip,
    and there is no single step. The state is the forward cell's.
    """

    def __init__(self, ahead: Cell, back: Cell) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = ahead.inputs, ahead.outputs, ahead.state_size
        self.ahead, self.back = ahead, back

    @property
    def multiply_adds(self) -> int:
        """Those of both cells."""
        return self.ahead.multiply_adds + self.back.multiply_adds

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, *state_size) -> (B, T, H), (B, *state_size); T is the whole clip."""
        y, last = self.ahead(x, state)
        backward, _ = self.back(x.flip(1), torch.zeros_like(state))
        return y + backward.flip(1), last

    def step(self, x: Tensor, state: Tensor) -> Step:
        """Not possible.

        Raises:
            UsageError: always.
        """
        raise UsageError("a bidirectional layer needs whole clips: it has no steps")

    def trace(self, x: Tensor, state: Tensor) -> Step:
        """As forward, with the gates of both cells; the backward cell's are "backward ..."."""
        ahead = self.ahead.trace(x, state)
        back = self.back.trace(x.flip(1), torch.zeros_like(state))
        gates = ahead.gates | {f"backward {n}": g.flip(1) for n, g in back.gates.items()}
        return Step(ahead.y + back.y.flip(1), ahead.state, gates)


def gate_products(layer: nn.RNNBase, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms that torch.nn adds up for the gates: W x + b and U h + c, each (B, gates)."""
    weights = [layer.get_parameter(f"{name}_l0") for name in ("weight_ih", "bias_ih")]
    recurrent = [layer.get_parameter(f"{name}_l0") for name in ("weight_hh", "bias_hh")]
    return nn.functional.linear(x, *weights), nn.functional.linear(h, *recurrent)


def recurrent_matrix(hidden: int, gates: int = 1) -> nn.Linear:
    """Weights from a state to `gates` gates, without bias, initially orthogonal for each gate.

    So the norm of a gradient neither grows nor shrinks at first (Saxe et al., 2014, arXiv
    1312.6120).
    """
    linear = nn.Linear(hidden, gates * hidden, bias=False)
    make_orthogonal(linear.weight, hidden)
    return linear


def make_orthogonal(weight: Tensor, hidden: int) -> None:
    """Make each gate's block of a recurrent weight (gates * hidden, ...) orthogonal, in place."""
    for gate in weight.data.split(hidden):
        nn.init.orthogonal_(gate)
