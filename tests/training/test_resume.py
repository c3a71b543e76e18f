"""Resuming: after stops, kills and full disks a run ends like one that was never stopped."""

import multiprocessing
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from full_disk import fill
from runs import CPU, assert_same_run, checkpoint, interrupt, metrics, quick_recipe, write_recipe
from safetensors import safe_open
from safetensors.torch import save_file
from tones import write_tones

from speechgru.cli import main
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError, UsageError
from speechgru.training import loop
from speechgru.training.recipe import Recipe
from speechgru.training.run_directory import RunDirectory

#: Starts processes in milliseconds that have torch already: they can be killed in earnest.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["speechgru.training.loop", "speechgru.cli"])


@pytest.fixture(scope="module")
def recipe(tones) -> Recipe:
    """30 steps with six validations."""
    return quick_recipe(tones)


@pytest.fixture(scope="module")
def uninterrupted(quick_run) -> Path:
    return quick_run


# Stopped runs.


@pytest.mark.parametrize("step", [1, 5, 29, 30])
def test_resumed_run_ends_like_an_uninterrupted_one(recipe, uninterrupted, tmp_path, step):
    run = tmp_path / "run"
    loop.prepare(recipe)  # so that `stop` is first called after the first step
    interrupt(recipe, run, step)
    assert checkpoint(run).keys() == checkpoint(uninterrupted).keys()
    result = loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, uninterrupted)
    assert result.steps == 30
    assert f"stopped at step {step}\n" in (run / "train.log").read_text()


def test_checkpoint_written_during_decoding_is_not_lost(
    recipe, uninterrupted, tmp_path, monkeypatch
):
    run, prepare = tmp_path / "run", loop.prepare
    RunDirectory(run).create(recipe)

    def slowly(*arguments):
        shutil.copytree(uninterrupted, run, dirs_exist_ok=True)
        return prepare(*arguments)

    monkeypatch.setattr(loop, "prepare", slowly)
    assert loop.train(recipe, run, CPU, resume=True).steps == 30
    assert "step 30 of 30" in (run / "train.log").read_text()
    assert_same_run(run, uninterrupted)


def test_run_can_be_stopped_repeatedly(recipe, uninterrupted, tmp_path):
    run = tmp_path / "run"
    interrupt(recipe, run, 3)
    for steps in (1, 4, 9):
        interrupt(recipe, run, steps, resume=True)
    loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, uninterrupted)


def test_checkpoint_includes_muons_state(tones, tmp_path):
    recipe = quick_recipe(tones, optimiser="muon")
    loop.train(recipe, tmp_path / "whole", CPU)
    interrupt(recipe, tmp_path / "run", 7)
    loop.train(recipe, tmp_path / "run", CPU, resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(uninterrupted, recipe, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    result = loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, uninterrupted)
    assert result.metrics["validation"] == {
        key: value
        for key, value in max(metrics(run), key=lambda row: row["balanced_accuracy"]).items()
        if key in ("loss", "accuracy", "balanced_accuracy", "n")
    } | {"loss": result.metrics["validation"]["loss"]}
    assert result.steps == 30


def test_the_way_to_resume_can_be_pasted_into_a_shell(recipe, tmp_path):
    run = tmp_path / "my run"
    with pytest.raises(InterruptedRunError) as stopped:
        loop.train(recipe, run, CPU, stop=lambda: (run / "recipe.toml").exists())
    assert str(stopped.value).endswith(f"speechgru train --resume '{run}'")


@pytest.mark.parametrize("bytes_left", [None, 100])
def test_a_run_without_its_weights_is_not_called_finished(
    uninterrupted, recipe, tmp_path, bytes_left
):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "model.safetensors").unlink()
    if bytes_left is not None:
        content = (uninterrupted / "model.safetensors").read_bytes()
        (run / "model.safetensors").write_bytes(content[:bytes_left])
    with pytest.raises(DataError, match=r"model\.safetensors: the best weights are missing"):
        loop.train(recipe, run, CPU, resume=True)


def test_without_its_checkpoint_a_run_says_that_it_starts_over(recipe, uninterrupted, tmp_path):
    """Its weights are replaced by those of the first validation."""
    run, lines = tmp_path / "run", []
    shutil.copytree(uninterrupted, run)
    shutil.rmtree(run / "last")
    asked = iter([False, True, True])
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, run, CPU, resume=True, stop=lambda: next(asked), say=lines.append)
    assert f"{run}: no checkpoint in last/, so training starts over" in lines


def test_metrics_after_the_checkpoint_are_not_duplicated(recipe, uninterrupted, tmp_path):
    """As after a kill between the writing of the line and of the checkpoint."""
    run = tmp_path / "run"
    interrupt(recipe, run, 7)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "loss": 1.0, "accu')
    loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, uninterrupted)


def test_only_the_runs_own_temporary_files_are_removed(recipe, tmp_path):
    run = tmp_path / "run"
    interrupt(recipe, run, 2)
    leftovers = (
        run / ".model.safetensors.abcd_123.tmp",
        run / "last" / ".checkpoint.safetensors.x1y2z3_4.tmp",
    )
    others = run / ".model.safetensors.mine.tmp", run / "last" / ".notes.abcd_123.tmp"
    for path in (*leftovers, *others):
        path.write_bytes(b"half")
    interrupt(recipe, run, 1, resume=True)
    assert not any(leftover.exists() for leftover in leftovers)
    assert all(other.exists() for other in others)


def test_stop_during_decoding_leaves_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path / "cache"))
    recipe = quick_recipe(write_tones(tmp_path))
    with pytest.raises(InterruptedRunError, match="stopped while recordings were decoded"):
        loop.train(recipe, tmp_path / "run", CPU, stop=lambda: True)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*s16*"))


# Runs that cannot be resumed.


def flat(text: str) -> str:
    return " ".join(text.split())


def test_damaged_checkpoint_is_reported(recipe, tmp_path):
    run = tmp_path / "run"
    interrupt(recipe, run, 2)
    path = run / "last" / "checkpoint.safetensors"
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-1], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"checkpoint\.safetensors: not a complete checkpoint"):
            loop.train(recipe, run, CPU, resume=True)


def test_resume_without_a_run_is_an_error(tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "no run to resume" in flat(capsys.readouterr().err)
    with pytest.raises(UsageError, match="no run to resume"):
        RunDirectory(tmp_path / "nothing").read_recipe()


def test_second_process_in_the_same_folder_is_refused(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    interrupt(recipe, run, 2)
    with RunDirectory(run).lock():
        assert main(["train", "--resume", str(run), "--device", "cpu"]) == 1
    assert f"{run}: another process trains here" in flat(capsys.readouterr().err)
    with RunDirectory(run).lock():
        pass


def test_run_created_during_decoding_is_not_overwritten(recipe, tmp_path, monkeypatch):
    run, prepare = tmp_path / "run", loop.prepare
    other = recipe.model_copy(update={"description": "another run"})

    def prepare_slowly(*arguments):
        RunDirectory(run).create(other)
        return prepare(*arguments)

    monkeypatch.setattr(loop, "prepare", prepare_slowly)
    with pytest.raises(UsageError, match="holds a run already"):
        loop.train(recipe, run, CPU)
    assert RunDirectory(run).read_recipe() == other
    assert sorted(path.name for path in run.iterdir()) == ["recipe.toml", "train.lock"]


@pytest.mark.parametrize("text", ["[training\n", "[training]\nepochs = -1\n", "[trainng]\n"])
def test_damaged_recipe_of_a_run_is_invalid_data(recipe, tmp_path, text):
    run = tmp_path / "run"
    RunDirectory(run).create(recipe)
    (run / "recipe.toml").write_text(text)
    with pytest.raises(DataError, match=r"recipe\.toml: .*; the run cannot be resumed with it$"):
        RunDirectory(run).read_recipe()


# Real processes and signals.


def command(arguments: list[str], log: Path, file_size: int | None = None) -> None:
    """Run the command line with its messages in a file, and optionally a limit of file sizes."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.exit(main(arguments))


def started(*arguments: object, log: Path, **options: int) -> multiprocessing.process.BaseProcess:
    process = PROCESSES.Process(
        target=command, args=([str(a) for a in arguments], log), kwargs=options
    )
    process.start()
    return process


def exit_code(process: multiprocessing.process.BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


def wait_for(path: Path, process: multiprocessing.process.BaseProcess) -> None:
    """Wait until the process has written a file."""
    while process.is_alive() and not (path.exists() and path.stat().st_size):
        process.join(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_saves_and_says_how_to_resume(recipe, tones, uninterrupted, tmp_path, number):
    run, log = tmp_path / "run", tmp_path / "log"
    name = write_recipe(tmp_path, tones)
    training = started("train", name, "--out", run, "--device", "cpu", log=log)
    wait_for(run / "metrics.jsonl", training)
    os.kill(training.pid, number)
    assert exit_code(training) == 130
    assert f"resume with: speechgru train --resume {run}" in flat(log.read_text())
    assert "Traceback" not in log.read_text()
    assert len(metrics(run)) < 6
    assert exit_code(started("train", "--resume", run, "--device", "cpu", log=log)) == 0
    assert_same_run(run, uninterrupted)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(tones, tmp_path):
    """The script in its own process group, as a terminal interrupts it."""
    run = tmp_path / "run"
    name = write_recipe(tmp_path, tones, epochs=4_000, validations=700)
    code = "from speechgru.cli import entry_point; entry_point()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", name, "--out", run, "--device", "cpu", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "stopped at step" in flat(err)
    assert (run / "last" / "checkpoint.safetensors").exists()


def test_closed_terminal_saves(tones, tmp_path):
    run = tmp_path / "run"
    name = write_recipe(tmp_path, tones, epochs=4_000, validations=700)
    child, terminal = pty.fork()
    if child == 0:
        code = "from speechgru.cli import entry_point; entry_point()"
        arguments = ["train", name, "--out", str(run), "--device", "cpu"]
        os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
    while not (run / "metrics.jsonl").exists():
        os.read(terminal, 10_000)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert "stopped at step" in (run / "train.log").read_text()
    assert (run / "last" / "checkpoint.safetensors").exists()


# A full disk.


def test_file_size_limit_is_reported_in_a_sentence(recipe, tones, uninterrupted, tmp_path):
    """Like a full disk for one process: writes fail in the middle."""
    run, log = tmp_path / "run", tmp_path / "log"
    interrupt(recipe, run, 7)
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    process = started("train", "--resume", run, "--device", "cpu", log=log, file_size=20_000)
    assert exit_code(process) == 1
    message = flat(log.read_text())
    assert ".safetensors: cannot be written: File too large" in message
    assert "Traceback" not in message
    assert before == {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    assert not list(run.rglob(".*.tmp"))
    loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, uninterrupted)


def test_full_disk_keeps_existing_files(recipe, uninterrupted, small_disk, capsys):
    run, filler = small_disk / "run", small_disk / "filler"
    interrupt(recipe, run, 7)
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    fill(filler)
    assert main(["train", "--resume", str(run), "--device", "cpu"]) == 1
    message = flat(capsys.readouterr().err)
    assert "cannot be written: No space left on device" in message
    assert str(run) in message
    assert before == {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    filler.unlink()
    assert main(["train", "--resume", str(run), "--device", "cpu"]) == 0
    assert_same_run(run, uninterrupted)


def test_disk_full_from_the_start_leaves_no_run(recipe, small_disk):
    fill(small_disk / "filler")
    with pytest.raises(SpeechGRUError, match=r"recipe\.toml: cannot be written: No space left"):
        loop.train(recipe, small_disk / "run", CPU)
    assert not list(small_disk.rglob("*.toml"))
    assert not list(small_disk.rglob("*.tmp"))


def test_resume_on_another_kind_of_device_is_refused(recipe, tmp_path):
    interrupt(recipe, tmp_path / "run", 3)
    path = RunDirectory(tmp_path / "run").checkpoint
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored["random.sampler"] = stored["random.sampler"][:16].clone()  # as a GPU's is
    save_file(stored, path, header)
    with pytest.raises(UsageError, match="resume it with the --device it started on"):
        loop.train(recipe, tmp_path / "run", CPU, resume=True)


def test_checkpoint_includes_random_state(recipe, tmp_path):
    """Without it dropout and the next batches would differ."""
    run = tmp_path / "run"
    interrupt(recipe, run, 2)
    stored_tensors = checkpoint(run)
    assert {"random.sampler", "random.torch"} <= stored_tensors.keys()
    assert any(name.startswith("optimiser.0.exp_avg") for name in stored_tensors)
    assert stored_tensors["random.torch"].dtype == torch.uint8
