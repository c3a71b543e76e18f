"""Killed, out of disk, a worker lost, at random moments: nothing is damaged, and nothing changes.

A validation and a checkpoint at every step, so that many faults fall into the writing.
`SPEECHGRU_FAULTS=10` asks for ten moments of each kind.
"""

import json
import os
import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from full_disk import fill
from runs import CPU, assert_same_run, quick_recipe
from safetensors import safe_open
from safetensors.torch import load_file
from together import PROCESSES, answer_of, started_together, together

from speechgru.errors import SpeechGRUError
from speechgru.modelfile.safetensors import load_model
from speechgru.training import loop
from speechgru.training.distribution import LostProcessError, Ranks
from speechgru.training.recipe import Recipe
from speechgru.training.run_directory import RunDirectory

pytestmark = pytest.mark.slow

STEPS = 30
MOMENTS = int(os.environ.get("SPEECHGRU_FAULTS", "2"))


@pytest.fixture(scope="module")
def recipe(tones) -> Recipe:
    return quick_recipe(tones, validations=STEPS)


@pytest.fixture(scope="module")
def uninterrupted(recipe, tmp_path_factory) -> Path:
    return loop.train(recipe, tmp_path_factory.mktemp("runs") / "whole", CPU).run


def moments(seed: int) -> list[int]:
    """Random steps, in order."""
    return sorted(random.Random(seed).sample(range(1, STEPS), MOMENTS))


def has_run(run: Path) -> bool:
    return (run / "recipe.toml").exists()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(happened: Callable[[], bool], process: BaseProcess) -> None:
    while process.is_alive() and not happened():
        time.sleep(0.005)


def kept_step(run: Path) -> int:
    """The step of the checkpoint; all files must be complete."""
    for path in run.rglob("*.safetensors"):
        load_file(path)
    checkpoint = run / "last" / "checkpoint.safetensors"
    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, framework="pt") as file:
        return json.loads(file.metadata()["speechgru-checkpoint"])["progress"]["step"]


def train_in_process(recipe: Recipe, run: Path) -> None:
    loop.train(recipe, run, CPU, has_run(run))


def test_killed_at_random_moments(recipe, uninterrupted, tmp_path):
    run, delay = tmp_path / "run", random.Random(0)
    for step in moments(1):
        before = kept_step(run)
        process = PROCESSES.Process(target=train_in_process, args=(recipe, run))
        process.start()
        wait_for(lambda step=step: lines(run / "metrics.jsonl") >= step, process)
        process.join(delay.uniform(0.0, 0.1))
        process.kill()
        process.join()
        assert kept_step(run) >= max(before, step - 1)
    loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, uninterrupted)


def test_killed_at_fifty_moments(tones, tmp_path):
    """From the first import on; files of others next to those of the run are left alone."""
    recipe = quick_recipe(tones, epochs=170, validations=150)
    whole = loop.train(recipe, tmp_path / "whole", CPU)
    run, delay = tmp_path / "run", random.Random(4)
    others = [
        *(run / name for name in (".notes.tmp", ".model.safetensors.tmp", "train.log.tmp")),
        run / "last" / ".checkpoint.safetensors.abc.tmp",
        run / "deeper" / ".model.safetensors.abcdefgh.tmp",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not the run's")
    kills = 0
    while kills < 50:
        before = kept_step(run)
        process = PROCESSES.Process(target=train_in_process, args=(recipe, run))
        process.start()
        process.join(delay.uniform(0.0, 1.2))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert kept_step(run) >= before
    loop.train(recipe, run, CPU, has_run(run))
    assert_same_run(run, whole.run)
    assert {path.read_text() for path in others} == {"not the run's"}


def start_at(moment: float, recipe: Recipe, run: Path, result: Path) -> None:
    """Train from a moment on, and write the seed, or why it was refused."""
    time.sleep(max(0.0, moment - time.time()))
    try:
        loop.train(recipe, run, CPU)
        result.write_text(f"seed {recipe.training.seed}")
    except SpeechGRUError as error:
        result.write_text(str(error))


def test_two_runs_that_start_together_do_not_mix(tones, tmp_path):
    recipes = [quick_recipe(tones, seed=seed, validations=1, epochs=5) for seed in (1, 2)]
    loop.prepare(recipes[0])
    for number in range(10):
        run = tmp_path / f"run{number}"
        results = [tmp_path / f"result{number}-{i}" for i in range(2)]
        moment = time.time() + 0.3
        processes = [
            PROCESSES.Process(target=start_at, args=(moment, recipe, run, result))
            for recipe, result in zip(recipes, results, strict=True)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        winner, loser = sorted((path.read_text() for path in results), reverse=True)
        assert winner in ("seed 1", "seed 2")
        assert "another process trains here" in loser or "holds a run already" in loser
        seed = int(winner.split()[1])
        assert RunDirectory(run).read_recipe().training.seed == seed
        origin = load_model(run / "model.safetensors").metadata["provenance"]
        assert origin["recipe"]["training"]["seed"] == seed
        assert not list(run.rglob(".*.tmp"))


def test_full_disk_at_random_moments(recipe, uninterrupted, small_disk):
    """There is room for some of the next files, and half of others."""
    run, filler, rest = small_disk / "run", small_disk / "filler", random.Random(2)
    for step in moments(2):
        left = step - kept_step(run)

        def stop() -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                fill(filler)
                os.truncate(filler, filler.stat().st_size - rest.randrange(60_000))
            return False

        with pytest.raises(SpeechGRUError, match="cannot be written: No space left on device"):
            loop.train(recipe, run, CPU, has_run(run), stop=stop)
        filler.unlink()
        assert kept_step(run) >= step - 1
        assert not list(run.rglob(".*.tmp"))
    loop.train(recipe, run, CPU, has_run(run))
    assert_same_run(run, uninterrupted)


def train_until_lost(ranks: Ranks, recipe: Recipe, run: Path, resume: bool) -> str:
    try:
        loop.train(recipe, run, CPU, resume, ranks=ranks)
    except LostProcessError as error:
        return str(error)
    return "done"


def test_lost_process_at_random_moments(recipe, tmp_path):
    """One of two is killed, and the other reports it; two resume the run as if nothing had
    happened.
    """
    run, whole, chance = tmp_path / "run", tmp_path / "whole", random.Random(3)
    assert together(train_until_lost, 2, tmp_path, recipe, whole, False) == ["done"] * 2
    for number, step in enumerate(moments(3)):
        before, lost = kept_step(run), chance.randrange(2)
        with started_together(train_until_lost, 2, tmp_path, recipe, run, has_run(run)) as pair:
            # Both have joined when the first one has logged its start.
            wait_for(lambda count=number + 1: lines(run / "train.log") >= count, pair[0])
            wait_for(lambda step=step: lines(run / "metrics.jsonl") >= step, pair[0])
            pair[lost].kill()
            other = pair[1 - lost]
            other.join(120)
            assert other.exitcode == 0
            message = answer_of(1 - lost, tmp_path)
            assert message.startswith("another process of this run has ended")
        assert kept_step(run) >= max(before, step - 1)
    assert together(train_until_lost, 2, tmp_path, recipe, run, True) == ["done"] * 2
    assert_same_run(run, whole)
