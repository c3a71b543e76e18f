"""Recurrent layers as after training, and the states that they begin in."""

import torch
from torch import Tensor

from speechgru.model.cells import Cell, make_cell

#: What rounding leaves between two ways to the same numbers.
NEAR = {"atol": 1e-5, "rtol": 1e-5}


def make(name: str, inputs: int = 5, outputs: int = 7, **options: float) -> Cell:
    """A cell as after training: neither biases nor running statistics are at their first value."""
    cell = make_cell(name, inputs, outputs, **({"context": 4} | options))
    for key, tensor in [*cell.named_parameters(), *cell.named_buffers()]:
        if key.endswith("running_var"):
            tensor.data.uniform_(0.5, 2)
        elif key.endswith("bias") or key.endswith("running_mean"):
            tensor.data += 0.3 * torch.randn_like(tensor)
    return cell.eval()


def start(cell: Cell, batch: int = 2, scale: float = 0.0) -> Tensor:
    return scale * torch.randn(batch, *cell.state_size)
