"""Training that starts with another model's weights."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import CPU, assert_same_run, make_trainer, quick_recipe
from tones import untrained_model, write_tones

from speechgru.backends.loader import open_backend
from speechgru.cli import main
from speechgru.cli.inputs import start_from, with_data
from speechgru.errors import DataError, InterruptedRunError, UsageError
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.bundled import bundled_model, trained_model
from speechgru.modelfile.safetensors import load_model, save_model
from speechgru.training import loop
from speechgru.training.recipe import load_recipe, parse_recipe
from speechgru.training.run_directory import RunDirectory
from speechgru.training.trainer import Trainer, steps_of
from speechgru.training.warm_start import initialize_from

pytestmark = pytest.mark.usefixtures("quick_streams")


@pytest.fixture(scope="module")
def before(tones, tmp_path_factory):
    """A model from a short run."""
    run = tmp_path_factory.mktemp("before") / "run"
    return loop.train(quick_recipe(tones, epochs=10, validations=1), run, CPU).model


def recipe_from(tones, path, **changes):
    table = quick_recipe(tones, begin_with=str(path), seed=5).model_dump(mode="json")
    for name, section in changes.items():
        table[name] |= section
    return parse_recipe(table, "recipe")


def test_all_weights_are_initialized_from_the_same_network(tones, before):
    trainer = make_trainer(recipe_from(tones, before))
    for name, tensor in load_model(before).state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], tensor), name
        assert torch.equal(trainer.state.average.model.state_dict()[name], tensor), name


def test_provenance_includes_the_initial_model(tones, before, tmp_path):
    result = loop.train(recipe_from(tones, before, training={"epochs": 5}), tmp_path / "run", CPU)
    origin = load_model(result.model).metadata["provenance"]
    assert origin["begun_with"] == load_model(before).metadata["provenance"]
    assert origin["recipe"]["training"]["begin_with"] == "model.safetensors"
    assert "begun_with" not in origin["begun_with"]


def test_resume_does_not_need_the_initial_model(tones, before, tmp_path):
    start, run = tmp_path / "start.safetensors", tmp_path / "run"
    shutil.copy(before, start)
    recipe = recipe_from(tones, start, training={"epochs": 5})
    whole = loop.train(recipe, tmp_path / "whole", CPU)
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, run, CPU, stop=run.exists)
    start.unlink()
    loop.train(RunDirectory(run).read_recipe(), run, CPU, resume=True)
    assert_same_run(run, whole.run)
    origin = load_model(run / "model.safetensors").metadata["provenance"]
    assert origin["begun_with"] == load_model(before).metadata["provenance"]


def test_run_without_a_checkpoint_needs_the_initial_model(tones, before, tmp_path):
    start, run = tmp_path / "start.safetensors", tmp_path / "run"
    RunDirectory(run).create(recipe_from(tones, start))
    with pytest.raises(DataError, match=r"start\.safetensors"):
        loop.train(RunDirectory(run).read_recipe(), run, CPU, resume=True)
    shutil.copy(before, start)
    assert loop.train(RunDirectory(run).read_recipe(), run, CPU, resume=True).steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"hidden": 24}}, "the recipe 24; they must be the same network"),
        ({"features": {"mels": 42}}, "has features.mels = "),
    ],
)
def test_another_network_is_an_error(tones, before, changes, message):
    with pytest.raises(UsageError, match=message):
        make_trainer(recipe_from(tones, before, **changes))


def check_encoder(trainer, before, known=()):
    """The weights are the model's, of the heads only the columns of `known`; the rest is new."""
    own, trained = trainer.model.state_dict(), load_model(before)
    for name, tensor in trained.state_dict().items():
        if not name.startswith("head.") and name != "log_prior":
            assert torch.equal(own[name], tensor), name
    fresh = Trainer(
        trainer.recipe.model_copy(update=without_warm_start(trainer)), trainer.data, CPU
    ).model
    columns = [name for names in trainer.model.column_names.values() for name in names]
    for column, name in enumerate(columns):
        source, index = (trained, trained.labels.index(name)) if name in known else (fresh, column)
        assert torch.equal(own["head.weight"][column], source.head.weight[index]), name
        assert torch.equal(own["head.bias"][column], source.head.bias[index]), name
    new = (
        f" and its columns of {', '.join(known)}; the rest of the heads" if known else "; the heads"
    )
    assert f"{Path(before).name}{new}" in trainer.warm_start.message


def without_warm_start(trainer):
    return {"training": trainer.recipe.training.model_copy(update={"begin_with": ""})}


def test_other_words_initialize_the_encoder_only(tones, before, tmp_path):
    other = write_tones(tmp_path)
    other.write_text(other.read_text().replace(",low,", ",deep,"))
    check_encoder(make_trainer(recipe_from(other, before)), before)


def test_a_ctc_head_also_begins_with_the_words_that_are_known(tones, before):
    trainer = make_trainer(recipe_from(tones, before, model={"heads": ["ctc"]}))
    check_encoder(trainer, before, ["high", "low", "mid"])
    characters = {"heads": ["ctc"], "ctc_units": "characters"}
    check_encoder(make_trainer(recipe_from(tones, before, model=characters)), before)


def test_unknown_words_are_known(tmp_path):
    """A word that a model told apart as one of the unknown ones, in both heads of another."""
    other = untrained_model()
    trained = SpeechGRU(other.config, other.features.config, ("_unknown_", "mid"), ("low", "high"))
    save_model(trained, tmp_path / "trained.safetensors")
    config = other.config.model_copy(update={"heads": ("ctc", "classify")})
    model = SpeechGRU(config, other.features.config, ("low", "_unknown_", "new"))
    new = model.head.weight.detach().clone()
    start = initialize_from(model, str(tmp_path / "trained.safetensors"))
    assert "and its columns of low; the rest" in start.message
    assert model.column_names == {
        "ctc": ("_blank_", "_unknown_", "low", "new"),
        "classify": ("low", "_unknown_", "new"),
    }
    for column, (weight, fresh) in enumerate(zip(model.head.weight, new, strict=True)):
        assert torch.equal(weight, trained.head.weight[2] if column in (2, 4) else fresh), column


def test_heads_learn_first(tones, before, tmp_path):
    other = write_tones(tmp_path)
    other.write_text(other.read_text().replace(",low,", ",deep,"))
    trainer = make_trainer(recipe_from(other, before, training={"heads_first": 0.5}))
    assert trainer.encoder_learns_from == -(-trainer.steps // 2)
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}

    def moved():
        now = trainer.model.named_parameters()
        return {name.split(".")[0] for name, p in now if not torch.equal(p, start[name])}

    for _ in range(trainer.encoder_learns_from):
        trainer.train_step()
    assert moved() == {"head"}
    trainer.train_step()
    assert moved() >= {"head", "layers", "project"}


def test_heads_do_not_learn_first_in_a_model_of_the_same_words(tones, before):
    settings = {"heads_first": 0.5, "keep_start": True}
    assert make_trainer(recipe_from(tones, before, training=settings)).encoder_learns_from == 0
    settings = {"heads_first": 0.5, "begin_with": ""}
    assert make_trainer(recipe_from(tones, before, training=settings)).encoder_learns_from == 0


@pytest.mark.parametrize("frozen", [True, False])
def test_front_is_frozen_or_learns(tones, before, frozen):
    trainer = make_trainer(recipe_from(tones, before, training={"freeze_front": frozen}))
    start = load_model(before)
    for _ in range(3):
        trainer.train_step()
    for model in (trainer.model, trainer.state.average.model):
        pairs = zip(model.front.parameters(), start.front.parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == frozen
    means = (model.front.convs[0].norm.running_mean for model in (trainer.model, start))
    assert not torch.equal(*means)  # they follow the recordings
    assert not torch.equal(trainer.model.project.weight, start.project.weight)


def test_nothing_is_frozen_without_a_model_to_begin_with(tones):
    trainer = make_trainer(quick_recipe(tones, freeze_front=True))
    assert all(p.requires_grad for p in trainer.model.parameters())


@pytest.mark.slow
def test_bundled_model_by_name(tones):
    recipe = with_data(load_recipe("my-words"), str(tones))
    trainer = make_trainer(recipe)
    assert recipe.training.begin_with == "commands-12"
    check_encoder(trainer, trained_model("commands-12"))
    assert trainer.warm_start.provenance["recipe"]["data"]["directory"] == "gsc-wide-made"


def test_least_steps(tones):
    least = {"least_steps": 40, "least_steps_per_word": 10}
    recipe = quick_recipe(tones, epochs=0.1, **least)
    trainer = make_trainer(recipe)
    assert trainer.steps == 40
    two_words = replace(trainer.data.task, labels=("low", "high", "_unknown_"))
    many_words = replace(trainer.data.task, labels=(*map(str, range(30)), "_unknown_"))
    assert steps_of(recipe.training, 10, two_words) == 40
    assert steps_of(recipe.training, 10, many_words) == 300
    many_clips = steps_of(recipe.training, 100_000, many_words)
    assert many_clips == round(0.1 * 100_000 / recipe.training.batch_size) > 300


def test_bundled_files_are_the_same_network():
    """The bundled ONNX file is the same network as the file that training starts with."""
    listens, trained = open_backend(bundled_model()), load_model(trained_model("commands-12"))
    assert listens.labels == trained.labels
    assert listens.metadata["provenance"] == trained.metadata["provenance"]


def test_invalid_initial_model_is_reported_before_decoding(tmp_path):
    for name, error in (
        (str(tmp_path / "nowhere.safetensors"), DataError),
        ("commands-13", UsageError),
    ):
        nowhere = recipe_from(tmp_path / "no-data", name)
        with pytest.raises(error, match=Path(name).stem):
            loop.train(nowhere, tmp_path / "run", CPU)
        assert not (tmp_path / "run").exists()


def test_train_from_option(tones, before, tmp_path, capsys, monkeypatch):
    recipe = tmp_path / "quick.toml"
    recipe.write_text(quick_recipe(tones, epochs=5, validations=1).to_toml())
    run = tmp_path / "it's a run"
    assert main(["train", str(recipe), "--from", str(before), "--out", str(run)]) == 0
    assert str(before) in (run / "recipe.toml").read_text()
    home_run = tmp_path / "home"
    monkeypatch.setenv("HOME", str(before.parent))
    again = ["train", str(recipe), "--from", "~/model.safetensors", "--out", str(home_run)]
    assert main(again) == 0
    assert str(before) in (home_run / "recipe.toml").read_text()
    assert main(["train", "--resume", str(run), "--from", str(before)]) == 2
    assert "leave out RECIPE, --out, --from and --set" in capsys.readouterr().err


def test_paths_of_models_become_absolute_with_any_letters(before, tones, tmp_path, monkeypatch):
    """So that a run can be resumed from another directory."""
    folder = tmp_path / "it's \\ mine"
    folder.mkdir()
    shutil.copy(before, folder / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    name = f"{folder.name}/m.safetensors"
    recipe = load_recipe("my-words", start_from(name))
    assert recipe.training.begin_with == str(folder / "m.safetensors")
    table = recipe.model_dump(mode="json")
    table["training"] |= {"begin_with": name, "teachers": [name, "commands-12", "nowhere"]}
    training = with_data(parse_recipe(table, "recipe"), str(tones)).training
    assert training.begin_with == str(folder / "m.safetensors")
    assert training.teachers == (str(folder / "m.safetensors"), "commands-12", "nowhere")


def test_bundled_model_is_stored_by_name():
    """The package may be installed elsewhere when the run is resumed."""
    assert start_from("commands-12") == ["training.begin_with='commands-12'"]
    assert start_from(None) == []
