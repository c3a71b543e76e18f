"""A recurrent layer's sequence form against its own step form, forward and backward."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from speechgru.analysis.cell_costs import clock_for, quickest
from speechgru.model.cells import CellName, make_cell


@dataclass(frozen=True)
class CellSpeed:
    """Milliseconds of a layer's forward and backward pass over a batch, whole and step by step."""

    cell: str
    parameters: int
    sequence_ms: float
    stepwise_ms: float

    @property
    def speedup(self) -> float:
        """How many times faster the sequence form is."""
        return self.stepwise_ms / self.sequence_ms

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"speedup": self.speedup}


def measure_cell(
    name: CellName, width: int, steps: int, batch: int, device: torch.device, rounds: int
) -> CellSpeed:
    """A layer of `width` to `width`, on noise; the quickest of `rounds` counts.

    The step form is the loop that a stream takes, `Cell.step` after `Cell.step`, with the gradient
    through all of it.
    """
    cell = make_cell(name, width, width).to(device).train()
    x = torch.randn(batch, steps, width, device=device)
    first = torch.zeros(batch, *cell.state_size, device=device)

    def learn(y: torch.Tensor) -> None:
        cell.zero_grad(set_to_none=True)
        y.square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def whole() -> None:
        learn(cell(x, first)[0])

    def stepwise() -> None:
        state, ys = first, []
        for column in x.unbind(dim=1):
            y, state, _ = cell.step(column, state)
            ys.append(y)
        learn(torch.stack(ys, dim=1))

    clock = clock_for(device)
    milliseconds = []
    for run in (whole, stepwise):
        run()
        milliseconds.append(1e3 * quickest(run, rounds, clock))
    return CellSpeed(name, sum(p.numel() for p in cell.parameters()), *milliseconds)
