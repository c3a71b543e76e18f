"""Training that begins with another model's weights."""

import pytest
import torch
from runs import CPU, make_trainer, quick_recipe
from tones import write_tones

from speechgru.cli import main
from speechgru.errors import DataError, UsageError
from speechgru.modelfile import load_model
from speechgru.training import loop
from speechgru.training.recipe import parse_recipe


@pytest.fixture(scope="module")
def before(tones, tmp_path_factory):
    """A model of a short run."""
    run = tmp_path_factory.mktemp("before") / "run"
    return loop.train(quick_recipe(tones, epochs=10, validations=1), run, CPU).model


def begun(tones, path, **changes):
    table = quick_recipe(tones, begin_with=str(path), seed=5).model_dump(mode="json")
    for name, section in changes.items():
        table[name] |= section
    return parse_recipe(table, "recipe")


def test_it_begins_with_all_that_the_model_has(tones, before):
    trainer = make_trainer(begun(tones, before))
    for name, tensor in load_model(before).state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], tensor), name
        assert torch.equal(trainer.state.average.model.state_dict()[name], tensor), name


def test_what_it_makes_says_what_it_began_with(tones, before, tmp_path):
    result = loop.train(begun(tones, before, training={"epochs": 5}), tmp_path / "run", CPU)
    origin = load_model(result.model).metadata["provenance"]
    assert origin["begun_with"] == load_model(before).metadata["provenance"]
    assert origin["recipe"]["training"]["begin_with"] == "model.safetensors"
    assert "begun_with" not in origin["begun_with"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"hidden": 24}}, "the recipe 24; only the weights of the same network"),
        ({"features": {"mels": 42}}, "has features.mels = "),
        ({"model": {"heads": ["ctc"]}}, r"has model.heads = \['classify'\]"),
    ],
)
def test_another_network_is_told(tones, before, changes, said):
    with pytest.raises(UsageError, match=said):
        make_trainer(begun(tones, before, **changes))


def test_other_words_and_no_model_are_told(tones, before, tmp_path):
    (tmp_path / "other").mkdir()
    other = write_tones(tmp_path / "other")
    other.write_text(other.read_text().replace(",low,", ",deep,"))
    with pytest.raises(UsageError, match="was trained on other words"):
        make_trainer(begun(other, before))
    # A file that is no model is told before anything is decoded.
    nowhere = begun(tmp_path / "no-data", tmp_path / "nowhere.safetensors")
    with pytest.raises(DataError, match="nowhere"):
        loop.train(nowhere, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_the_command_line_begins_with_a_model(tones, before, tmp_path, capsys):
    recipe = tmp_path / "quick.toml"
    recipe.write_text(quick_recipe(tones, epochs=5, validations=1).to_toml())
    run = tmp_path / "it's a run"
    assert main(["train", str(recipe), "--from", str(before), "--out", str(run)]) == 0
    assert str(before) in (run / "recipe.toml").read_text()
    assert main(["train", "--resume", str(run), "--from", str(before)]) == 2
    assert "--from and --set do not fit" in capsys.readouterr().err
