"""A run is resumed with the settings that it was started with, or not at all."""

import re
import shutil

import pytest
from runs import CPU, StopAfter, assert_same_run, change_progress, interrupt, quick_recipe

from speechgru.cli import main
from speechgru.errors import DataError, InterruptedRunError
from speechgru.training import loop
from speechgru.training.recipe import Recipe


@pytest.fixture(scope="module")
def recipe(tones) -> Recipe:
    return quick_recipe(tones)


@pytest.fixture(scope="module")
def started(recipe, tmp_path_factory):
    """A run that stopped after two steps."""
    run = tmp_path_factory.mktemp("started") / "run"
    interrupt(recipe, run, 2)
    return run


def changed(recipe: Recipe, section: str, **settings: object) -> Recipe:
    of_section = getattr(recipe, section).model_copy(update=settings)
    return recipe.model_copy(update={section: of_section})


@pytest.mark.parametrize(
    ("section", "setting", "value", "change"),
    [
        ("training", "batch_size", 8, "training.batch_size 16 -> 8"),
        ("training", "optimiser", "muon", "training.optimiser adamw -> muon"),
        ("training", "seed", 2, "training.seed 1 -> 2"),
        ("training", "epochs", 2.0, "training.epochs 34.3 -> 2.0"),
        ("model", "hidden", 17, "model.hidden 16 -> 17"),
    ],
)
def test_changed_setting_prevents_resuming(recipe, started, section, setting, value, change):
    before = (started / "last" / "checkpoint.safetensors").read_bytes()
    sentence = f"the recipe has changed since this run began ({change}); restore it, or start"
    with pytest.raises(DataError, match=re.escape(sentence)):
        loop.train(changed(recipe, section, **{setting: value}), started, CPU, resume=True)
    assert (started / "last" / "checkpoint.safetensors").read_bytes() == before


def test_edited_recipe_is_reported_with_every_change(started, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(started, run)
    text = (run / "recipe.toml").read_text()
    text = text.replace("seed = 1\n", "seed = 9\n").replace("batch_size = 16", "batch_size = 8")
    (run / "recipe.toml").write_text(text)
    assert main(["train", "--resume", str(run), "--device", "cpu"]) == 4
    shown = " ".join(capsys.readouterr().err.split())
    assert "(training.seed 1 -> 9, training.batch_size 16 -> 8)" in shown


def test_settings_without_influence_on_the_weights_may_change(recipe, started, quick_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(started, run)
    other = changed(recipe, "training", placement="host").model_copy(
        update={"description": "the same"}
    )
    loop.train(other, run, CPU, resume=True)
    assert_same_run(run, quick_run)


def test_a_run_of_an_earlier_version_is_resumed(recipe, started, quick_run, tmp_path):
    """Its checkpoint does not hold the recipe."""
    run = tmp_path / "run"
    shutil.copytree(started, run)
    change_progress(run, recipe={})
    loop.train(recipe, run, CPU, resume=True)
    assert_same_run(run, quick_run)


def test_a_setting_that_an_earlier_version_lacked_does_not_count(recipe, started, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(started, run)
    change_progress(run, recipe={"training": {"seed": 1, "gone": 3}})
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, run, CPU, resume=True, stop=StopAfter(0))


def test_checkpoint_of_another_network_is_reported(recipe, started, tmp_path):
    """Where it does not hold the recipe."""
    run = tmp_path / "run"
    shutil.copytree(started, run)
    change_progress(run, recipe={})
    with pytest.raises(DataError, match="not a complete checkpoint of this run: size mismatch"):
        loop.train(changed(recipe, "model", hidden=17), run, CPU, resume=True)
