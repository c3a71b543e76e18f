"""`speechgru compare cells`: trained once, gone on with, and told as it was measured."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
from matplotlib import image
from runs import CPU, quick_recipe, write_recipe
from tones import write_tones

from speechgru.analysis.comparison import TOLERANCE, PlannedRun, perform_run, plan_runs
from speechgru.cli import main
from speechgru.errors import InterruptedRunError
from speechgru.training.data import prepare

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections"),
    pytest.mark.usefixtures("quick_costs", "few_sounds"),
]


def run(capsys, *arguments):
    code = main(["compare", *map(str, arguments)])
    return code, capsys.readouterr()


def test_cells_are_trained_and_compared_once(tones, tmp_path, capsys):
    recipe = write_recipe(tmp_path, tones, epochs=20)
    typed = (recipe, "--cells", "gru,mingru", "--out", tmp_path / "out", "--json")
    code, told = run(capsys, *typed)
    assert code == 0
    found = json.loads(told.out)
    assert (found["match"], found["reference"], found["protocol"]) == (
        "parameters",
        "gru",
        "folder",
    )
    gru, mingru = found["rows"]
    assert (gru["cell"], gru["hidden"], mingru["cell"]) == ("gru", 16, "mingru")
    assert mingru["hidden"] > 16
    ratio = mingru["costs"]["parameters"] / gru["costs"]["parameters"]
    assert abs(ratio - 1) <= TOLERANCE
    assert set(gru["splits"]) == {"validation", "testing"}
    assert gru["splits"]["testing"]["accuracy"] > 0.4
    assert gru["splits"]["testing"]["n"] == 18
    assert mingru["splits"]["testing"]["difference"] is not None
    table = (tmp_path / "out" / "compare.md").read_text()
    assert "| gru | 16 |" in table
    assert len((tmp_path / "out" / "compare.csv").read_text().splitlines()) == 3
    assert min(image.imread(tmp_path / "out" / "compare.png").shape[:2]) > 150
    results = sorted((tmp_path / "out").glob("*/result.json"))
    assert [path.parent.name for path in results] == ["gru-seed1", "mingru-seed1"]
    before = [path.stat().st_mtime_ns for path in results]
    code, again = run(capsys, *typed)
    assert code == 0
    assert [path.stat().st_mtime_ns for path in results] == before
    assert json.loads(again.out) == found
    assert "done before" in again.err
    code, told = run(capsys, *typed[:-1])
    assert code == 0
    assert "validation" in told.out
    assert "points from gru" in told.out
    assert told.out.count("mingru") == 3
    assert all(len(line) <= 80 for line in told.out.splitlines()[:-1])
    assert "compare.md" in told.out


def test_runs_of_another_recipe_are_refused(tones, tmp_path, capsys):
    recipe = write_recipe(tmp_path, tones, epochs=1, validations=1)
    typed = (recipe, "--cells", "rnn", "--out", tmp_path / "out")
    assert run(capsys, *typed)[0] == 0
    code, told = run(capsys, *typed, "--set", "training.epochs=2")
    assert code == 2
    assert "rnn-seed1: holds a run of another recipe" in told.err


def test_results_of_other_recordings_are_refused(tmp_path, capsys):
    """A recording replaced by one of the same size leaves the result that was measured before."""
    typed = (write_recipe(tmp_path, write_tones(tmp_path), epochs=1, validations=1), "--cells")
    assert run(capsys, *typed, "rnn", "--out", tmp_path / "out")[0] == 0
    shutil.copyfile(tmp_path / "high-a.wav", tmp_path / "low-a.wav")
    code, told = run(capsys, *typed, "gru,rnn", "--out", tmp_path / "out")
    assert code == 4
    assert "rnn-seed1: the recordings have changed since this run began" in told.err
    assert not (tmp_path / "out" / "gru-seed1").exists()
    shutil.rmtree(tmp_path / "out" / "rnn-seed1" / "last")
    code, told = run(capsys, *typed, "rnn", "--out", tmp_path / "out")
    assert code == 0
    assert "rnn-seed1: no checkpoint in last/, so whether the recordings have changed" in told.err


def test_interrupted_run_resumes_with_the_same_result(tones, tmp_path):
    recipe = quick_recipe(tones, epochs=10)
    data = prepare(recipe)
    stopped, whole = (
        plan_runs(recipe, data, ["mgu"], "width", 1, tmp_path / name)[0] for name in ("a", "b")
    )
    asked = iter([False] * 3 + [True] * 99)
    with pytest.raises(InterruptedRunError):
        perform_run(stopped, data, CPU, stop=lambda: next(asked))
    assert not stopped.result_file.exists()
    one, other = perform_run(stopped, data, CPU), perform_run(whole, data, CPU)
    assert one.splits == other.splits
    assert one.steps == other.steps == math.ceil(recipe.training.epochs * len_training(data) / 16)


def len_training(data) -> int:
    return len(data.task.split("training"))


def test_every_cell_has_the_recordings_that_the_comparison_began_with(tmp_path):
    recipe = quick_recipe(write_tones(tmp_path), epochs=1, validations=1)
    data = prepare(recipe)
    run, *_ = plan_runs(recipe, data, ["rnn"], "width", 1, tmp_path / "out")
    (tmp_path / "low-a.wav").unlink()
    assert perform_run(run, data, CPU).splits["testing"].n == 18


def test_plan_has_every_seed_of_every_cell(tones, tmp_path):
    recipe = quick_recipe(tones, seed=5)
    runs = plan_runs(recipe, prepare(recipe), ["gru", "rnn"], "width", 2, tmp_path)
    assert [(run.cell, run.seed) for run in runs] == [
        ("gru", 5),
        ("rnn", 5),
        ("gru", 6),
        ("rnn", 6),
    ]
    assert [run.recipe.training.seed for run in runs] == [5, 5, 6, 6]
    assert len({run.folder for run in runs}) == 4
    assert all(isinstance(run, PlannedRun) for run in runs)


def test_costs_only_trains_nothing(tones, tmp_path, capsys):
    recipe = write_recipe(tmp_path, tones)
    code, told = run(
        *(capsys, recipe, "--cells", "ligru,ssm,rnn", "--match", "width", "--costs-only"),
        *("--out", tmp_path / "out", "--json"),
    )
    assert code == 0
    rows = json.loads(told.out)["rows"]
    assert [row["cell"] for row in rows] == ["ligru", "ssm", "rnn"]
    assert {row["hidden"] for row in rows} == {16}
    assert not any(row["splits"] for row in rows)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"costs.md", "costs.csv"}


def test_what_was_measured_is_printed_even_if_it_cannot_be_written(tones, tmp_path, capsys):
    (tmp_path / "costs.md").mkdir()
    typed = write_recipe(tmp_path, tones), "--cells", "rnn", "--costs-only", "--out", tmp_path
    code, told = run(capsys, *typed)
    assert code == 1
    assert "costs.md: cannot be written" in told.err
    assert "M MAC/s" in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cells", "grue"], "'grue'"),
        (["--match", "depth"], "--match depth"),
        (["--set", "model.cell=grue"], "model.cell"),
    ],
)
def test_invalid_options_exit_2(tones, tmp_path, capsys, arguments, said):
    code, told = run(capsys, write_recipe(tmp_path, tones), *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert said in told.err
    assert not (tmp_path / "out").exists()


def test_recipe_page_shows_the_written_tables():
    """No row of it by hand: its tables are the command's, and have the figures of the CSV."""
    page = (RECIPES / "RESULTS.md").read_text(encoding="utf-8")
    page = page.partition("## cells")[2].partition("\n## ")[0]
    written = (RECIPES / "cells" / "compare.md").read_text(encoding="utf-8")
    shown = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(shown) > 10
    assert "\n".join(shown) in written
    rows = list(csv.DictReader((RECIPES / "cells" / "compare.csv").open(encoding="utf-8")))
    for name in ("validation", "testing"):
        for row in rows:
            accuracy = 100 * float(row[f"{name}_accuracy"])
            assert f"| {row['cell']} | {row['hidden']} | {accuracy:.2f} (" in written
    assert {"rnn", "lstm", "lstmp", "gru", "gru-cho", "mgu", "ligru", "mingru", "transformer"} < {
        row["cell"] for row in rows
    }
    counts = [int(row["parameters"]) for row in rows]
    assert max(counts) / min(counts) <= (1 + TOLERANCE) / (1 - TOLERANCE)
