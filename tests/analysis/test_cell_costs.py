"""Costs of recurrent cells, and `bench cells`: a layer's sequence form against its steps."""

import json

import pytest
import torch
from runs import CPU, small_comparison
from torch.utils.flop_counter import FlopCounterMode

from speechgru.analysis.cell_costs import CellSpeed, Costs, measure_cell, measure_costs
from speechgru.analysis.comparison import count_parameters
from speechgru.cli import main
from speechgru.model.cells import CELL_NAMES, make_cell
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.training.recipe import parse_recipe
from speechgru.training.trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections"),
    pytest.mark.usefixtures("quick_costs", "few_sounds"),
]
SMALL = ("--steps", "4", "--hidden", "6", "--batch", "2", "--rounds", "1")


def test_every_cell_is_timed_whole_and_stepwise(capsys):
    assert main(["bench", "cells", *SMALL, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["steps"], printed["hidden"], printed["batch"]) == (4, 6, 2)
    assert [one["cell"] for one in printed["cells"]] == list(CELL_NAMES)
    for one in printed["cells"]:
        assert min(one["sequence_ms"], one["stepwise_ms"]) > 0
        assert one["speedup"] == pytest.approx(one["stepwise_ms"] / one["sequence_ms"])
        cell = make_cell(one["cell"], 6, 6)
        assert one["parameters"] == sum(p.numel() for p in cell.parameters())


def test_step_form_runs_every_step_with_its_gradient(monkeypatch):
    """In every repetition; both forms have the same loss."""
    cell, steps, losses = type(make_cell("mingru", 6, 6)), [], []
    step, backward = cell.step, torch.Tensor.backward
    monkeypatch.setattr(cell, "step", lambda *args: steps.append(args[1]) or step(*args))
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda loss: losses.append(loss.item()) or backward(loss)
    )
    torch.manual_seed(0)
    measure_cell("mingru", 6, 5, 2, CPU, 3)
    assert len(steps) == 5 * (1 + 3)
    assert losses == pytest.approx([losses[0]] * 8, rel=1e-4)


def test_table_of_cells(capsys):
    assert main(["bench", "cells", *SMALL, "--cells", "gru,mingru"]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "4 steps of 2 sequences, 6 units, on cpu"
    assert head.split()[0] == "cell"
    assert [row.split()[0] for row in rows] == ["gru", "mingru"]
    assert CellSpeed("gru", 1, 2.0, 5.0).speedup == 2.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "grue"], "'grue': must be one of"),
        (["--cells", "stack+gru"], "a single layer has no front"),
        (["--cells", "ligru", "--batch", "1"], "--batch 1: ligru normalizes over the batch"),
    ],
)
def test_impossible_cells_are_refused(capsys, options, message):
    assert main(["bench", "cells", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("front", ["stack", "conv"])
@torch.no_grad()
def test_multiply_adds_equal_torchs_flop_counter(front):
    """For one step, with a cell made of linear layers, as torch counts only those."""
    config = ModelConfig(
        front=front, front_channels=(3, 4, 5), front_kernel=3, hidden=12, cell="mgu"
    )
    features = FeatureConfig(kind="logmel", mels=23, fft_samples=512)
    model = SpeechGRU(config, features, ("a", "b", "c")).eval()
    state = model.initial_state()
    with FlopCounterMode(display=False) as counter:
        model.apply_heads(model.encode(torch.randn(1, 2, 23), state)[0])
    assert model.multiply_adds == counter.get_total_flops() // 2


def costs_of(**model) -> Costs:
    recipe, data = small_comparison(**model)
    return measure_costs(Trainer(recipe, data, CPU))


def test_costs_follow_from_the_network():
    gru, lstm = costs_of(), costs_of(cell="lstm")
    recipe, data = small_comparison()
    assert gru.parameters == count_parameters(recipe, data.task)
    frames = 1 * (3 - 2) * 20 + 4 * (3 - 1) * 10  # carried by the convolutions, times bands
    assert gru.state_kb == (320 + frames + 2 * 64) * 4 / 1024
    assert lstm.state_kb - gru.state_kb == 2 * 64 * 4 / 1024
    assert gru.multiply_adds_per_second % 50 == 0
    assert lstm.multiply_adds_per_second > gru.multiply_adds_per_second
    for cost in (gru, lstm):
        assert cost.step_us > cost.onnx_step_us > 1
        assert cost.train_clips_per_second > 1


def test_saved_memory_grows_with_the_batch_without_weights():
    recipe, data = small_comparison(layers=1, front="stack")
    saved_mb = {}
    for size in (8, 16):
        table = recipe.model_dump(mode="json")
        table["training"]["batch_size"] = size
        saved_mb[size] = measure_costs(Trainer(parse_recipe(table, "recipe"), data, CPU)).saved_mb
    features = 8 * 15 * 40 * 4 / 2**20
    assert saved_mb[8] > features
    assert saved_mb[16] == pytest.approx(2 * saved_mb[8], rel=0.1)


def test_whole_clip_model_has_no_step_time():
    cost = costs_of(bidirectional=True)
    assert (cost.step_us, cost.onnx_step_us) == (None, None)
