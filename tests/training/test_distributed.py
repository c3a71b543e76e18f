"""Two processes train like one, and end together."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from runs import CPU, checkpoint, metrics, quick_recipe, write_recipe
from together import together

from speechgru.cli import main
from speechgru.errors import InterruptedRunError, UsageError
from speechgru.training import loop
from speechgru.training.data import prepare
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.trainer import Trainer, check_shares

STEPS = 20


def other_recipe(tones: Path, **sections: dict) -> Recipe:
    table = quick_recipe(tones, learning_rate=5e-3).model_dump(mode="json")
    for name, changes in sections.items():
        table[name] |= changes
    return parse_recipe(table, "recipe")


RECIPES = {
    "clips": {},
    "streams": {"stream": {"clips": 2}},
    "normalised cells, dropout at each step": {
        "model": {"cell": "ligru", "dropout": 0.3, "dropout_mask": "step"},
    },
    "muon": {"training": {"optimiser": "muon"}},
    "ctc": {"model": {"heads": ["classify", "ctc"]}, "stream": {"clips": 4}},
}


def train_steps(ranks: Ranks, recipe: Recipe) -> dict:
    """The whole batch's loss at each step, and what was learned.

    In numbers of 64 bits: in those of 32, products that are added up in another order, as of half a
    batch or with wider registers, part two runs by 1e-3 within 20 steps of some of the recipes.
    """
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        torch.set_default_dtype(torch.float64)
        try:
            trainer = Trainer(recipe, prepare(recipe), CPU, ranks)
            losses = [ranks.mean(trainer.train_step()).item() for _ in range(STEPS)]
        finally:
            torch.set_default_dtype(torch.float32)
    return {
        "losses": losses,
        "weights": trainer.state.average.model.state_dict(),
        "carried": {name: ranks.gather(part) for name, part in trainer.batches.carried.items()},
    }


@pytest.mark.slow
@pytest.mark.parametrize("sections", RECIPES.values(), ids=RECIPES.keys())
def test_two_processes_learn_the_same_as_one(tones, tmp_path, sections):
    recipe = other_recipe(tones, **sections)
    alone = train_steps(ALONE, recipe)
    pair = together(train_steps, 2, tmp_path, recipe)
    for one in pair:
        assert one["losses"] == pytest.approx(alone["losses"], rel=1e-11, abs=1e-11)
        for part in ("weights", "carried"):
            for name, tensor in alone[part].items():
                torch.testing.assert_close(one[part][name], tensor, atol=1e-9, rtol=1e-9)
    # The processes themselves do not differ in a bit.
    assert pair[0]["losses"] == pair[1]["losses"]
    for name, tensor in pair[0]["weights"].items():
        assert torch.equal(pair[1]["weights"][name], tensor), name


def first_losses(ranks: Ranks, recipe: Recipe) -> dict[str, object]:
    trainer = Trainer(recipe, prepare(recipe), CPU, ranks)
    losses = [ranks.mean(trainer.train_step()).item() for _ in range(3)]
    carried = {name: ranks.gather(part) for name, part in trainer.batches.carried.items()}
    return {"losses": losses, "carried": carried}


@pytest.mark.slow
def test_two_processes_are_taught_the_same_as_one(tones, quick_run, tmp_path):
    """By a model on streams and by one that needs whole clips; in 32 bits, as its file has them."""
    recipe = other_recipe(tones, model={"bidirectional": True}, training={"epochs": 2.3})
    clip_teacher = loop.train(recipe, tmp_path / "teacher", CPU).model
    teachers = [str(quick_run / "model.safetensors"), str(clip_teacher)]
    recipe = other_recipe(tones, stream={"clips": 2}, training={"teachers": teachers})
    alone = first_losses(ALONE, recipe)
    for one in together(first_losses, 2, tmp_path, recipe):
        assert one["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        for name, tensor in alone["carried"].items():
            torch.testing.assert_close(one["carried"][name], tensor, atol=1e-3, rtol=1e-3)


def test_batch_that_cannot_be_shared_is_an_error(tones):
    check_shares(quick_recipe(tones, batch_size=16), Ranks(0, 4))
    with pytest.raises(UsageError, match=r"batch_size 16 is 16 rows, which 3 processes cannot sh"):
        check_shares(quick_recipe(tones, batch_size=16), Ranks(0, 3))
    streams = other_recipe(tones, stream={"clips": 4})
    with pytest.raises(UsageError, match=r"batch_size 16 is 4 rows, which 8 processes"):
        check_shares(streams, Ranks(0, 8))


class StopAfter:
    """Returns true when it is called for the n-th time."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def train_partly(ranks: Ranks, recipe: Recipe, run: Path) -> str:
    """Only the first is asked whether to stop, and both do."""
    stop = StopAfter(7) if ranks.is_first else lambda: False
    try:
        loop.train(recipe, run, CPU, stop=stop, ranks=ranks)
    except InterruptedRunError as error:
        return str(error)
    return "not stopped"


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, {"stream": {"clips": 2}}], ids=["clips", "streams"])
def test_one_process_resumes_a_run_of_two(tones, tmp_path, sections):
    recipe = other_recipe(tones, **sections)
    prepare(recipe)  # so that `stop` is first called after the first step
    run, whole = tmp_path / "run", tmp_path / "whole"
    messages = together(train_partly, 2, tmp_path, recipe, run)
    assert messages == [f"stopped at step 7 of 30; resume with: speechgru train --resume {run}"] * 2
    assert [row["step"] for row in metrics(run)] == [5]  # written once
    loop.train(recipe, whole, CPU)
    loop.train(recipe, run, CPU, resume=True)
    assert checkpoint(run).keys() == checkpoint(whole).keys()
    for one, other in zip(metrics(run), metrics(whole), strict=True):
        assert one | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, abs=1e-3)


# The command line.

#: A run that lasts until it is stopped, with a checkpoint every fifth step.
ENDLESS = {"epochs": 40_000, "validations": 7_000}


def python(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def children(process: subprocess.Popen) -> list[int]:
    """The processes that it started, in order."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    return sorted(map(int, listed.stdout.split()))


def wait_for_checkpoint(run: Path, process: subprocess.Popen) -> None:
    while process.poll() is None and not (run / "last" / "checkpoint.safetensors").exists():
        time.sleep(0.05)


def flat(text: str) -> str:
    return " ".join(text.split())


def torchrun() -> list[str]:
    """The guide's command for two processes on one machine, up to `train`."""
    guides = Path(__file__).resolve().parents[2] / "recipes" / "guides"
    guide = (guides / "speech-commands.md").read_text(encoding="utf-8")
    line = next(line for line in guide.replace("\\\n", "").splitlines() if "torchrun --" in line)
    for there, here in (
        ("nnodes 2", "nnodes 1"),
        ("node 8", "node 2"),
        ("HOST:29500", "localhost:0"),
    ):
        assert there in line
        line = line.replace(there, here)
    words = shlex.split(line)
    return ["-m", "torch.distributed.run", *words[1 : words.index("train")]]


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, {"stream": {"clips": 2}}], ids=["clips", "streams"])
def test_devices_and_torchrun_give_the_losses_of_one_process(tones, tmp_path, sections):
    """Over 20 steps, each validated; only the first process writes files and messages."""
    each = {"training": {"epochs": 22.9, "validations": STEPS}}
    recipe = other_recipe(tones, **each, **sections)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    alone = [row["loss"] for row in metrics(loop.train(recipe, tmp_path / "alone", CPU).run)]
    assert len(alone) == STEPS
    train = ["train", tmp_path / "recipe.toml", "--device", "cpu", "--json", "--out"]
    ways = {
        "devices": ["-m", "speechgru", *train, tmp_path / "devices", "--devices", 2],
        "torchrun": [*torchrun(), *train, tmp_path / "torchrun"],
    }
    for name, arguments in ways.items():
        run = tmp_path / name
        process = python(*arguments)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert [row["loss"] for row in metrics(run)] == pytest.approx(alone, abs=1e-5)
        assert json.loads(out)["run"] == str(run)
        assert err.count("training on 2 x cpu") == 1
        assert "Traceback" not in err
        log = (run / "train.log").read_text()
        assert log.count("on 2 x cpu") == log.count("done: ") == 1
        assert not list(run.rglob(".*.tmp"))
        if (run / "tensorboard").exists():
            assert len(list((run / "tensorboard").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_killed_process_ends_the_run_which_can_be_resumed(tones, tmp_path, number):
    recipe, run = write_recipe(tmp_path, tones, **ENDLESS), tmp_path / "run"
    process = python(
        "-m", "speechgru", "train", recipe, "--out", run, "--device", "cpu", "--devices", 2
    )
    wait_for_checkpoint(run, process)
    os.kill(children(process)[number], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert flat(err).count("error:") == 1
    assert f"process {number} of 2 was ended by SIGKILL; " in flat(err)
    assert f"speechgru train --resume {run}" in flat(err)
    assert "Traceback" not in err
    done = len(metrics(run))
    recipe = quick_recipe(tones, **ENDLESS)
    with pytest.raises(InterruptedRunError, match="stopped at step"):
        loop.train(recipe, run, CPU, resume=True, stop=StopAfter(3))
    assert len(metrics(run)) <= done


@pytest.mark.slow
def test_ctrl_c_saves_and_stops_all_processes(tones, tmp_path):
    recipe, run = write_recipe(tmp_path, tones, **ENDLESS), tmp_path / "run"
    process = python(
        "-m", "speechgru", "train", recipe, "--out", run, "--device", "cpu", "--devices", 2
    )
    wait_for_checkpoint(run, process)
    started = children(process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert flat(err).count("error:") == 1
    assert f"resume with: speechgru train --resume {run}" in flat(err)
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda:0", "--devices", "2"], "cuda"),
        (["--devices", "0"], "--devices"),
        (["--device", "tpu", "--devices", "2"], "--device 'tpu': unknown"),
    ],
)
def test_unavailable_devices_are_errors(tones, tmp_path, capsys, arguments, message):
    recipe = write_recipe(tmp_path, tones)
    assert main(["train", recipe, "--out", str(tmp_path / "run"), *arguments]) == 2
    assert message in flat(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_devices_option_is_refused_under_torchrun(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", write_recipe(tmp_path, tones), "--devices", "2"]) == 2
    assert "torchrun sets the number of processes" in flat(capsys.readouterr().err)
