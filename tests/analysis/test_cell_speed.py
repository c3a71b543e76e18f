"""`bench cells`: a layer's sequence form against its steps."""

import json

import pytest
import torch
from runs import CPU

from speechgru.analysis.cell_speed import CellSpeed, measure_cell
from speechgru.cli import main
from speechgru.model.cells import CELL_NAMES, make_cell

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")
SMALL = ("--steps", "4", "--hidden", "6", "--batch", "2", "--rounds", "1")


def test_every_cell_is_measured_both_ways(capsys):
    assert main(["bench", "cells", *SMALL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["hidden"], told["batch"]) == (4, 6, 2)
    assert [one["cell"] for one in told["cells"]] == list(CELL_NAMES)
    for one in told["cells"]:
        assert min(one["sequence_ms"], one["stepwise_ms"]) > 0
        assert one["speedup"] == pytest.approx(one["stepwise_ms"] / one["sequence_ms"])
        cell = make_cell(one["cell"], 6, 6)
        assert one["parameters"] == sum(p.numel() for p in cell.parameters())


def test_the_step_form_takes_every_step_and_learns(monkeypatch):
    """As many steps as were asked for, in each repetition, with a gradient through all of them."""
    kind, counted = type(make_cell("mingru", 6, 6)), []
    plain = kind.step
    monkeypatch.setattr(kind, "step", lambda *given: counted.append(given[1]) or plain(*given))
    seen = []
    passed = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda loss: seen.append(loss.item()) or passed(loss)
    )
    torch.manual_seed(0)
    measure_cell("mingru", 6, 5, 2, CPU, 3)
    assert len(counted) == 5 * (1 + 3)
    assert seen == pytest.approx([seen[0]] * 8, rel=1e-4)  # both forms ask for the same loss


def test_the_table(capsys):
    assert main(["bench", "cells", *SMALL, "--cells", "gru,mingru"]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "4 steps of 2 sequences, 6 units, on cpu"
    assert head.split()[0] == "cell"
    assert [row.split()[0] for row in rows] == ["gru", "mingru"]
    assert CellSpeed("gru", 1, 2.0, 5.0).speedup == 2.5


@pytest.mark.parametrize(
    ("cells", "said"), [("grue", "'grue': none of"), ("stack+gru", "a layer alone has no front")]
)
def test_what_is_no_layer_is_told(capsys, cells, said):
    assert main(["bench", "cells", "--cells", cells]) == 2
    assert said in capsys.readouterr().err
