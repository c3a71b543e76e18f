"""Recurrent cells: each is (x, state) -> (y, state), and each family has a file."""

from typing import Literal, get_args

from speechgru.model.cells.cell import Bidirectional, Cell, Step, UnrolledCell
from speechgru.model.cells.gru import GRU, MGU, ChoGRU, LiGRU
from speechgru.model.cells.minimal import MinGRU, MinLSTM
from speechgru.model.cells.rnn import LSTM, RNN
from speechgru.model.cells.statespace import SelectiveSSM
from speechgru.model.cells.transformer import CausalTransformer

CellName = Literal[
    "rnn",
    "lstm",
    "lstmp",
    "gru",
    "gru-cho",
    "mgu",
    "ligru",
    "mingru",
    "minlstm",
    "ssm",
    "transformer",
]
CELL_NAMES: tuple[str, ...] = get_args(CellName)
#: Cells with a gate that keeps the state, whose initial bias can be chosen.
GATED = {
    "lstm": LSTM,
    "gru": GRU,
    "gru-cho": ChoGRU,
    "mgu": MGU,
    "ligru": LiGRU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
}
#: Memory cells per output of an LSTMP (Sak et al. use 1.3 to 4).
LSTMP_CELLS = 2

__all__ = [
    "CELL_NAMES",
    "GATED",
    "GRU",
    "LSTM",
    "MGU",
    "RNN",
    "Bidirectional",
    "CausalTransformer",
    "Cell",
    "CellName",
    "ChoGRU",
    "LiGRU",
    "MinGRU",
    "MinLSTM",
    "SelectiveSSM",
    "Step",
    "UnrolledCell",
    "make_cell",
]


def make_cell(
    name: CellName, inputs: int, outputs: int, keep_bias: float = 0.0, context: int = 50
) -> Cell:
    """A recurrent layer by name, (B, T, inputs) -> (B, T, outputs).

    Args:
        keep_bias: added to the bias of the gate that keeps the state, in cells that have one.
        context: steps that a Transformer sees.
    """
    if name in GATED:
        return GATED[name](inputs, outputs, keep_bias)
    if name == "lstmp":
        return LSTM(inputs, LSTMP_CELLS * outputs, keep_bias, projection=outputs)
    if name == "transformer":
        return CausalTransformer(inputs, outputs, context)
    return {"rnn": RNN, "ssm": SelectiveSSM}[name](inputs, outputs)
