"""`speechgru train` as it is typed: what it prints, where, and with which exit code."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from runs import assert_same_run, metrics, write_recipe
from tones import RATE, tone, write_tones

from speechgru.cli import main
from speechgru.modelfile.safetensors import load_model
from speechgru.training.recipe import load_recipe


@pytest.fixture(scope="module")
def recipe(tones, tmp_path_factory) -> str:
    """A recipe of six steps, with its data."""
    return write_recipe(tmp_path_factory.mktemp("recipe"), tones, epochs=8, validations=2)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(*arguments: object) -> int:
    return main(["train", *(str(argument) for argument in arguments), "--device", "cpu"])


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_json_is_all_that_is_on_stdout(recipe, capsys):
    assert train(recipe, "--out", "run", "--json") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.out.count("\n") == 1
    assert (result["run"], result["model"]) == ("run", "run/model.safetensors")
    assert (result["steps"], result["stopped_early"]) == (7, False)
    assert result["metrics"]["validation"]["n"] == 6
    assert result["seconds"] >= 0
    assert "run: training on cpu; Ctrl-C saves and stops" in printed.err


def test_one_line_per_validation_without_a_terminal(recipe, capsys):
    assert train(recipe, "--out", "run") == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("step ")]
    assert len(lines) == 2
    assert re.fullmatch(
        r"step 7/7  loss \d\.\d{3}  validation \d+\.\d\d %  \d+ clips/s  0 s left", lines[-1]
    )
    assert re.match(
        r"run/model\.safetensors: best at step \d of 7; validation \d+\.\d\d % balanced over the "
        r"labels, \d+\.\d\d % of N=6; \d+ s\n",
        printed.out,
    )
    assert "\x1b" not in printed.out + printed.err


def test_files_of_a_run_directory(recipe):
    assert train(recipe, "--out", "run") == 0
    names = {path.name for path in Path("run").iterdir()}
    assert {"recipe.toml", "metrics.jsonl", "model.safetensors", "last", "train.log"} <= names
    assert load_model(Path("run/model.safetensors")).labels[2:] == ("high", "low", "mid")


def test_each_run_has_its_own_directory(recipe):
    for _ in range(2):
        assert train(recipe, "--set", "training.epochs=1") == 0
    assert {path.name for path in Path("runs").iterdir()} == {"quick", "quick-2"}


def test_command_line_overrides_the_recipe(recipe, tones, monkeypatch):
    monkeypatch.chdir(tones.parent)
    run = Path("run")
    options = ["--data", tones.name, "--set", "training.epochs=4", "--set", "training.seed=7"]
    assert train(recipe, "--out", run, *options) == 0
    kept = load_recipe("run/recipe.toml")
    assert (kept.training.epochs, kept.training.seed) == (4, 7)
    assert kept.data.directory == str(tones)  # from wherever it is resumed
    assert len(metrics(run)) == 2


def test_run_resumes_with_its_data_moved(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    recipe = write_recipe(tmp_path, write_tones(first), epochs=8, validations=2)
    assert train(recipe, "--out", "whole") == 0
    assert train(recipe, "--out", "run", "--set", "training.epochs=8") == 0
    (Path("run") / "last" / "checkpoint.safetensors").unlink()  # as if killed before the first
    first.rename(second)
    assert train("--resume", "run") == 4
    assert f"{first}/tones.csv" in one_line(capsys.readouterr().err)
    assert train("--resume", "run", "--data", second / "tones.csv") == 0
    assert_same_run(Path("run"), Path("whole"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing"], 2, "recipe 'nothing': not a file, and not one of the bundled recipes"),
        (["{empty}"], 2, "empty: is a directory, not a recipe; recordings are given with --data"),
        (["--data", "{one}"], 4, "for words of your own: speechgru train my-words --data"),
        (["missing.toml"], 2, "missing.toml: no such recipe file"),
        (["{recipe}", "--set", "training.epoch=1"], 2, "(did you mean 'epochs'?)"),
        (["{recipe}", "--set", "training.epochs=0"], 2, "training.epochs = 0"),
        (["my-words"], 2, "no data: name it with --data DIR"),
        (["{recipe}", "--data", "nowhere"], 4, "nowhere"),
        (["{recipe}", "--data", "{empty}"], 4, "empty"),
        (["{recipe}", "--data", "{text}"], 4, "text.csv"),
        (["{recipe}", "--resume", "run"], 2, "--resume continues the run as it was started"),
        (["--resume", "run", "--out", "other"], 2, "--resume continues the run as it was started"),
        (["--resume", "run"], 2, "run: no run to resume, as it has no recipe.toml; start one with"),
        (["{recipe}", "--out", "{text}/run"], 1, "text.csv is not a directory"),
        (["{recipe}", "--colour"], 2, "--colour"),
    ],
)
def test_invalid_options_are_one_sentence(recipe, tmp_path, capsys, arguments, code, said):
    places = {"recipe": recipe}
    for name in ("empty", "one"):
        (tmp_path / name).mkdir()
        places[name] = str(tmp_path / name)
    (tmp_path / "one" / "yes").mkdir()
    for speaker in "abcd":
        soundfile.write(tmp_path / "one" / "yes" / f"{speaker}.wav", tone("low", 0), RATE)
    places["text"] = str(tmp_path / "text.csv")
    Path(places["text"]).write_text("yes,no\n")
    before = sorted(tmp_path.rglob("*"))

    assert train(*(argument.format(**places) for argument in arguments)) == code
    printed = capsys.readouterr()
    assert said in one_line(printed.err)
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert "training on" not in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_broken_recording_is_named_and_no_run_starts(tmp_path, capsys):
    manifest = write_tones(tmp_path)
    broken = tmp_path / "mid-c.wav"
    broken.write_bytes(broken.read_bytes()[:-2_000])
    assert train(write_recipe(tmp_path, manifest), "--out", "run") == 4
    message = one_line(capsys.readouterr().err)
    assert "mid-c.wav: truncated: it has 14044 of 16044 bytes" in message
    assert not Path("run").exists()


def test_existing_run_is_not_touched(recipe, capsys):
    assert train(recipe, "--out", "run", "--set", "training.epochs=1") == 0
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    assert train(recipe, "--out", "run") == 2
    advice = (
        "holds a run already; use another --out, or resume it with: speechgru train --resume run"
    )
    assert advice in one_line(capsys.readouterr().err)
    for part in ("model.safetensors", "last"):
        assert train("--resume", f"run/{part}") == 2
        advice = "is a part of a run; resume the run with: speechgru train --resume run"
        assert advice in one_line(capsys.readouterr().err)
    assert before == {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}


@pytest.mark.parametrize("device", ["tpu", "cuda:x"])
def test_unknown_device_is_refused(recipe, device, capsys):
    assert main(["train", recipe, "--device", device]) == 2
    assert "auto, cpu, cuda, cuda:N or mps is needed" in one_line(capsys.readouterr().err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_missing_cuda_says_what_to_use(recipe, capsys):
    assert main(["train", recipe, "--device", "cuda"]) == 2
    assert "torch finds no CUDA GPU here; use auto or cpu" in one_line(capsys.readouterr().err)


def test_markup_in_run_names_is_printed_as_text(recipe, capsys):
    assert train(recipe, "--out", "[bold]run[/bold]", "--set", "training.epochs=1") == 0
    printed = capsys.readouterr()
    assert "[bold]run[/bold]: training on cpu" in printed.err
    assert "[bold]run[/bold]/model.safetensors: best" in printed.out


def on_a_terminal(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Run a command on a pseudo terminal; its exit code and all that it wrote."""
    terminal, end = pty.openpty()
    code = "from speechgru.cli import entry_point; entry_point()"
    environment = os.environ | {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=end, stderr=end, env=environment
    )
    os.close(end)
    written = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            written += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
    os.close(terminal)
    return process.wait(60), written.decode()


def test_live_line_fits_80_columns(recipe):
    code, written = on_a_terminal("train", recipe, "--out", "run", "--device", "cpu")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n")
    live = [line for line in plain.split("\n") if line.startswith("train ")]
    assert live
    assert max(map(len, live)) <= 80
    assert re.search(r"100% loss \d\.\d{3}  validation \d+\.\d\d %  \d+ clips/s", live[-1])
    assert re.search(r"next: speechgru evaluate run/model\S+ --data \S+tones\.csv\s", plain)


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_by_default(monkeypatch, before, after):
    monkeypatch.setenv("OMP_WAIT_POLICY", "to be restored")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    assert main(["--version"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == after
