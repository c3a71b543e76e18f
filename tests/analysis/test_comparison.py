"""Comparison of cells: matched networks, intervals and tables."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import small_comparison

from speechgru.analysis.cell_costs import Costs
from speechgru.analysis.comparison import (
    TOLERANCE,
    count_parameters,
    parse_cells,
    solve_width,
    variant,
    variants,
)
from speechgru.analysis.comparison_report import (
    RunResult,
    SplitResult,
    as_csv,
    as_markdown,
    make_rows,
    paired_difference,
)
from speechgru.analysis.training_cost import synthetic_data
from speechgru.errors import DataError, UsageError
from speechgru.model.cells import CELL_NAMES
from speechgru.training.recipe import load_recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections"),
    pytest.mark.usefixtures("quick_costs"),
]


# Parameters and widths.


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_width_matches_the_recipes_parameters(cell):
    recipe, data = small_comparison()
    target = count_parameters(recipe, data.task)
    width = solve_width(recipe, data.task, cell, target)
    found = variant(recipe, cell, width)
    assert abs(count_parameters(found, data.task) - target) <= TOLERANCE * target
    assert found.model == recipe.model.model_copy(update={"cell": cell, "hidden": width})
    assert found.training == recipe.training
    if cell == "gru":
        assert width == 64
    if cell == "transformer":
        assert width % 2 == 0


def test_nearest_width_is_chosen():
    recipe, data = small_comparison()
    for cell in ("rnn", "lstm"):
        for width in (17, 40):
            target = count_parameters(variant(recipe, cell, width), data.task)
            assert solve_width(recipe, data.task, cell, target + 3) == width
            assert solve_width(recipe, data.task, cell, target - 3) == width


def test_error_if_no_width_matches():
    recipe, data = small_comparison(hidden=1)
    with pytest.raises(UsageError, match=r"no width of 'transformer' gives .* to within 3 %"):
        variants(recipe, data.task, ["transformer"], "parameters")


def test_cell_with_another_front():
    """Without convolutions a wider cell gets their parameters."""
    recipe, data = small_comparison()
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
    target = count_parameters(recipe, data.task)
    for one in found.values():
        assert abs(count_parameters(one, data.task) - target) <= TOLERANCE * target


def test_match_by_width():
    recipe, data = small_comparison()
    found = variants(recipe, data.task, ["rnn", "lstmp"], "width")
    assert [one.model.hidden for one in found.values()] == [64, 64]


def test_parse_cells():
    assert parse_cells("gru, rnn") == ("gru", "rnn")
    assert parse_cells("gru,stack+gru") == ("gru", "stack+gru")
    assert parse_cells("all") == CELL_NAMES
    for wrong, message in {
        "grue": "'grue': must be one of rnn, lstm",
        "stack+grue": r"'stack\+grue': must be one of rnn, lstm",
        "stak+gru": r"'stak\+gru': the front must be one of stack, conv",
        "+gru": r"'\+gru': the front must be one of stack, conv",
        "gru,gru": "names a cell twice",
    }.items():
        with pytest.raises(UsageError, match=message):
            parse_cells(wrong)


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


def test_result_round_trip(tmp_path):
    whole = result("gru", step_us=None, hits="01" * 50, carried=None)
    whole.save(tmp_path / "result.json")
    assert RunResult.load(tmp_path / "result.json") == whole


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"cell": "gru", "costs": {"a": 1}}'])
def test_damaged_result_is_reported(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(DataError, match=r"result\.json: not a result of a comparison"):
        RunResult.load(tmp_path / "result.json")


def test_rows_average_over_seeds():
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


def test_a_single_clip_has_no_interval_of_its_difference():
    _, rnn = make_rows([result("gru", hits="1"), result("rnn", hits="0")], "gru")
    assert rnn.splits["testing"].difference is None


def test_no_difference_has_an_interval_too():
    mean, low, high = paired_difference(np.zeros(100))
    assert (mean, round(low, 1), round(high, 1)) == (0.0, -3.7, 3.7)


@given(seed=st.integers(0, 1_000))
@settings(max_examples=5, deadline=None)
def test_paired_interval_covers_the_truth_19_times_in_20(seed):
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(400):
        both = rng.random(300)
        better, worse = (both < 0.8).astype(float), ((both + 0.05) % 1 < 0.8).astype(float)
        _, low, high = paired_difference(worse - better)
        inside += low <= 0 <= high  # each is right with probability 0.8
    assert 0.90 <= inside / 400 <= 0.99


def test_markdown_and_csv_tables():
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


def test_cells_recipe_matches_every_cell():
    recipe = load_recipe("cells")
    data = synthetic_data(recipe, 350)
    for cell, found in variants(recipe, data.task, CELL_NAMES, "parameters").items():
        assert found.model.cell == cell
