"""Cells compared: the same parameters, and honest intervals."""

import csv
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import CPU, QUICK
from torch.utils.flop_counter import FlopCounterMode

from speechgru.analysis.cell_costs import Costs, measure
from speechgru.analysis.cell_variants import (
    TOLERANCE,
    count_parameters,
    parse_cells,
    solve_width,
    variant,
    variants,
)
from speechgru.analysis.comparison_results import (
    RunResult,
    SplitResult,
    make_rows,
    paired_difference,
)
from speechgru.analysis.comparison_table import as_csv, as_markdown
from speechgru.analysis.training_cost import made_data
from speechgru.errors import DataError, UsageError
from speechgru.model.cells import CELL_NAMES
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.training.recipe import load_recipe, parse_recipe
from speechgru.training.trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections"),
    pytest.mark.usefixtures("quick_costs"),
]


def small(**model):
    """A recipe of 64 units, and made clips for it."""
    table = QUICK | {"data": {"protocol": "folder", "clip_s": 0.3}, "training": {"batch_size": 8}}
    recipe = parse_recipe(table | {"model": QUICK["model"] | {"hidden": 64} | model}, "small")
    return recipe, made_data(recipe, 80)


# Parameters and widths.


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_each_cell_can_have_the_parameters_of_the_recipe(cell):
    recipe, data = small()
    wanted = count_parameters(recipe, data.task)
    width = solve_width(recipe, data.task, cell, wanted)
    found = variant(recipe, cell, width)
    assert abs(count_parameters(found, data.task) - wanted) <= TOLERANCE * wanted
    assert found.model == recipe.model.model_copy(update={"cell": cell, "hidden": width})
    assert found.training == recipe.training
    if cell == "gru":
        assert width == 64
    if cell == "transformer":
        assert width % 2 == 0


def test_the_nearest_width_is_found():
    recipe, data = small()
    for cell in ("rnn", "lstm"):
        for width in (17, 40):
            wanted = count_parameters(variant(recipe, cell, width), data.task)
            assert solve_width(recipe, data.task, cell, wanted + 3) == width
            assert solve_width(recipe, data.task, cell, wanted - 3) == width


def test_what_no_width_gives_is_told():
    recipe, data = small(hidden=1)
    with pytest.raises(UsageError, match=r"no width of 'transformer' gives .* to 3 %"):
        variants(recipe, data.task, ["transformer"], "parameters")


def test_a_cell_can_stand_behind_another_front():
    """With what the convolutions cost given to the cell: as many parameters."""
    recipe, data = small()
    assert recipe.model.front == "conv"
    found = variants(recipe, data.task, ["gru", "stack+gru", "stack+transformer"], "parameters")
    crnn, plain, transformer = (one.model for one in found.values())
    assert (crnn.front, crnn.hidden) == ("conv", 64)
    assert (plain.front, plain.cell) == ("stack", "gru")
    assert plain == crnn.model_copy(update={"front": "stack", "hidden": plain.hidden})
    assert (transformer.front, transformer.cell, transformer.hidden % 2) == (
        *("stack", "transformer"),
        0,
    )
    wanted = count_parameters(recipe, data.task)
    for one in found.values():
        assert abs(count_parameters(one, data.task) - wanted) <= TOLERANCE * wanted


def test_the_same_width_is_the_recipe_s():
    recipe, data = small()
    found = variants(recipe, data.task, ["rnn", "lstmp"], "width")
    assert [one.model.hidden for one in found.values()] == [64, 64]


def test_names_of_cells():
    assert parse_cells("gru, rnn") == ("gru", "rnn")
    assert parse_cells("gru,stack+gru") == ("gru", "stack+gru")
    assert parse_cells("all") == CELL_NAMES
    for wrong, said in {
        "grue": "'grue': none of rnn, lstm",
        "stack+grue": r"'stack\+grue': none of rnn, lstm",
        "stak+gru": r"'stak\+gru': no front of stack, conv",
        "+gru": r"'\+gru': no front of stack, conv",
        "gru,gru": "each cell once",
    }.items():
        with pytest.raises(UsageError, match=said):
            parse_cells(wrong)


# Costs.


@pytest.mark.parametrize("front", ["stack", "conv"])
@torch.no_grad()
def test_multiply_adds_are_those_that_torch_counts(front):
    """Of one step; a cell of linear layers alone, as torch counts no others."""
    config = ModelConfig(
        front=front, front_channels=(3, 4, 5), front_kernel=3, hidden=12, cell="mgu"
    )
    features = FeatureConfig(kind="logmel", mels=23, fft_samples=512)
    model = SpeechGRU(config, features, ("a", "b", "c")).eval()
    state = model.initial_state()
    with FlopCounterMode(display=False) as counter:
        model.encode(torch.randn(1, 2, 23), state)
    assert model.multiply_adds == counter.get_total_flops() // 2


def costs_of(**model) -> Costs:
    recipe, data = small(**model)
    return measure(Trainer(recipe, data, CPU))


def test_costs_are_of_the_network():
    gru, lstm = costs_of(), costs_of(cell="lstm")
    recipe, data = small()
    assert gru.parameters == count_parameters(recipe, data.task)
    frames = 1 * (3 - 2) * 20 + 4 * (3 - 1) * 10  # that the convolutions carry, by bands
    assert gru.state_kb == (320 + frames + 2 * 64) * 4 / 1024
    assert lstm.state_kb - gru.state_kb == 2 * 64 * 4 / 1024
    assert gru.multiply_adds_per_second % 50 == 0
    assert lstm.multiply_adds_per_second > gru.multiply_adds_per_second
    for cost in (gru, lstm):
        assert cost.step_us > cost.onnx_step_us > 1
        assert cost.train_clips_per_second > 1


def test_what_a_batch_keeps_grows_with_the_batch_and_holds_no_weights():
    recipe, data = small(layers=1, front="stack")
    kept = {}
    for size in (8, 16):
        table = recipe.model_dump(mode="json")
        table["training"]["batch_size"] = size
        kept[size] = measure(Trainer(parse_recipe(table, "recipe"), data, CPU)).saved_mb
    features = 8 * 15 * 40 * 4 / 2**20
    assert kept[8] > features
    assert kept[16] == pytest.approx(2 * kept[8], rel=0.1)


def test_a_model_that_needs_whole_clips_has_no_step():
    cost = costs_of(bidirectional=True)
    assert (cost.step_us, cost.onnx_step_us) == (None, None)


# Results.


def result(cell, seed=0, hits="1110", carried=2.0, **changed) -> RunResult:
    of_network = {
        **{"parameters": 1_000, "multiply_adds_per_second": 2_000_000},
        **{"train_clips_per_second": 100.0, "saved_mb": 3.0, "step_us": 50.0},
        **{"state_kb": 1.0, "onnx_step_us": 20.0},
    }
    split = SplitResult(hits, carried)
    return RunResult(
        *(cell, 64, seed, "commands-12", 10, 1.0),
        Costs(**of_network | changed),
        {"validation": split, "testing": split},
    )


def test_a_result_is_read_as_it_was_written(tmp_path):
    whole = result("gru", step_us=None, hits="01" * 50, carried=None)
    whole.save(tmp_path / "result.json")
    assert RunResult.load(tmp_path / "result.json") == whole


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"cell": "gru", "costs": {"a": 1}}'])
def test_a_damaged_result_is_told(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(DataError, match=r"result\.json: not a result of a comparison"):
        RunResult.load(tmp_path / "result.json")


def test_rows_are_means_over_the_seeds():
    runs = [
        result("gru", 0, "1110"),
        result("rnn", 0, "1100", 1.0, step_us=10.0),
        result("gru", 1, "1111"),
        result("rnn", 1, "1000", 1.0, step_us=30.0),
    ]
    gru, rnn = make_rows(runs, "gru")
    assert (gru.cell, gru.seeds, rnn.cell, rnn.seeds) == ("gru", 2, "rnn", 2)
    assert rnn.costs.step_us == 20.0
    found = rnn.splits["testing"]
    assert found.accuracy == pytest.approx(0.375)
    assert found.accuracies == (0.5, 0.25)
    assert found.reset_gap == pytest.approx(12.5)
    # Per clip, mean over the seeds: 0, -0.5, -1, -0.5 (of clips 0 to 3).
    assert found.difference == pytest.approx(paired_difference(np.array([0, -0.5, -1.0, -0.5])))
    assert found.difference[0] == pytest.approx(100 * (0.375 - 0.875))
    assert gru.splits["testing"].difference is None
    low, high = found.ci95
    assert 0 < low < 0.375 < high < 1


@given(seed=st.integers(0, 1_000))
@settings(max_examples=5, deadline=None)
def test_the_paired_interval_holds_the_truth_19_times_in_20(seed):
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(400):
        both = rng.random(300)
        better, worse = (both < 0.8).astype(float), ((both + 0.05) % 1 < 0.8).astype(float)
        _, low, high = paired_difference(worse - better)
        inside += low <= 0 <= high  # each is right with probability 0.8
    assert 0.90 <= inside / 400 <= 0.99


def test_the_tables_have_every_row_and_figure():
    rows = make_rows([result("gru"), result("rnn", hits="1100", step_us=None)], "gru")
    validation, testing, of_network = as_markdown(rows, "gru").split("\n\n| cell ")[1:]
    for table in (validation, testing, of_network):
        lines = table.split("\n\n")[0].splitlines()
        assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["gru", "rnn"]
        assert len({line.count("|") for line in lines[1:]}) == 1
    assert "% of N=4" in testing
    assert "| gru | 64 | 75.00 (30.1 to 95.4) | – | 25.0 | 1 |" in testing
    assert "| 50.00 (15.0 to 85.0) | -25.0 (" in testing
    assert "| gru | 64 | 1,000 | 2.0 | 100 | 3 | 50 | 20 | 1.0 |" in of_network
    assert "| rnn | 64 | 1,000 | 2.0 | 100 | 3 | – | 20 | 1.0 |" in of_network
    gru, rnn = csv.DictReader(io.StringIO(as_csv(rows)))
    assert float(gru["testing_accuracy"]) == 0.75
    assert rnn["step_us"] == ""
    assert float(rnn["testing_difference"]) == -25.0
    assert gru["testing_difference"] == ""
    untrained = make_rows([RunResult("gru", 8, 0, "p", 0, 0.0, result("gru").costs, {})], "gru")
    assert "testing" not in as_markdown(untrained, "gru")


def test_the_recipe_that_ships_compares_cells_of_the_same_parameters():
    recipe = load_recipe("cells")
    data = made_data(recipe, 350)
    for cell, found in variants(recipe, data.task, CELL_NAMES, "parameters").items():
        assert found.model.cell == cell
