"""Recipes: strict, resolved, and with clear errors."""

import tomllib
from pathlib import Path

import pytest

from speechgru.cli import main
from speechgru.errors import UsageError
from speechgru.training.recipe import Recipe, load_recipe, parse_recipe
from speechgru.training.recipe_files import (
    DEFAULT_RECIPE,
    find_recipe,
    recipe_descriptions,
    recipe_names,
)

#: What the README names.
IN_PACKAGE = (
    "digits-ctc",
    "gsc-open-12",
    "my-words",
    "quickstart",
    "speech-commands-v2-12",
    "speech-commands-v2-35",
)


@pytest.fixture
def written(tmp_path: Path):
    """A function that writes a recipe's text to a file and returns its name."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "own.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def test_bundled_recipes():
    assert set(IN_PACKAGE) <= set(recipe_names())
    assert DEFAULT_RECIPE in recipe_names()
    descriptions = recipe_descriptions()
    assert len(set(descriptions.values())) == len(descriptions)


@pytest.mark.parametrize("name", recipe_names())
def test_bundled_recipes_load_by_name_and_path(name):
    recipe = load_recipe(name)
    assert recipe.description
    assert load_recipe(str(find_recipe(name))) == recipe
    assert main(["train", name, "--data", "/nowhere/at/all", "--device", "cpu"]) == 4


@pytest.mark.parametrize("name", recipe_names())
def test_resolved_recipe_round_trip(name, written):
    recipe = load_recipe(name, ["description=yes", "augment.snr_db=[-5, 20]"])
    text = recipe.to_toml()
    assert load_recipe(written(text)) == recipe
    assert tomllib.loads(text)["training"].keys() == type(recipe.training).model_fields.keys()


def test_empty_recipe_has_all_defaults(written):
    assert load_recipe(written("")) == Recipe()


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "null", "1e", "größer"])
def test_bare_words_stay_strings(word, written):
    recipe = load_recipe(written(""), [f"description={word}", f"data.directory={word}"])
    assert (recipe.description, recipe.data.directory) == (word, word)
    again = load_recipe(written(recipe.to_toml()))
    assert (again.description, again.data.directory) == (word, word)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.epochs=5", "training", "epochs", 5.0),
        ("training.epochs = 2.5", "training", "epochs", 2.5),
        ("training.learning_rate=1e-3", "training", "learning_rate", 0.001),
        ("model.front=conv", "model", "front", "conv"),
        ("model.front='conv'", "model", "front", "conv"),
        ('model.front="conv"', "model", "front", "conv"),
        ("model.front_channels=[8, 16, 24]", "model", "front_channels", (8, 16, 24)),
        ("model.residual=false", "model", "residual", False),
        ("augment.snr_db=[0, 10.5]", "augment", "snr_db", (0.0, 10.5)),
        ("data.directory=/a/b = c", "data", "directory", "/a/b = c"),
        ("data.directory=", "data", "directory", ""),
    ],
)
def test_override(override, section, key, value, written):
    recipe = load_recipe(written("[training]\nepochs = 9\n"), [override])
    assert getattr(getattr(recipe, section), key) == value


def test_last_override_wins(written):
    overrides = ["training.epochs=1", "training.seed=4", "training.epochs=2"]
    training = load_recipe(written("[training]\nbatch_size = 7\n"), overrides).training
    assert (training.epochs, training.seed, training.batch_size) == (2, 4, 7)


WRONG = {
    "[traning]\nepochs = 3": r"unknown key 'traning' \(did you mean 'training'\?\); known: desc",
    "[training]\nepoch = 3": r"unknown key 'training.epoch' \(did you mean 'epochs'\?\)",
    "[model]\nhiden = 3": r"unknown key 'model.hiden' \(did you mean 'hidden'\?\)",
    "[augment]\nzzz = 3": r"unknown key 'augment.zzz'; known: shift_ms, speed",
    "[training]\nepochs = 0": r"training.epochs = 0: input should be greater than 0",
    "[training]\nepochs = 'many'": r"training.epochs = 'many': input should be a valid number",
    "[training]\nepochs = inf": r"training.epochs = inf: input should be a finite number",
    "[training]\nlearning_rate = nan": r"training.learning_rate = nan: input should be",
    "[training]\nbatch_size = 1.5": r"training.batch_size = 1.5: input should be a valid integer",
    "[training]\nprecision = 'fp8'": r"training.precision = 'fp8'",
    "[model]\ncell = 'lstmm'": r"model.cell = 'lstmm': input should be",
    "[model]\nfront_channels = [3, 'x']": r"model.front_channels.1 = 'x'",
    "[model]\nfront = 'conv'\nfront_channels = [3]": r"model: front_channels \[3\] must hold",
    "[features]\nwindow_ms = 10.0\nhop_ms = 20.0": r"window_ms 10 must be at least hop_ms 20",
    '[training]\nchoose_by = "streams"\n[model]\nbidirectional = true': "needs whole clips",
    "[training]\nkeep_start = true": "keep_start needs training.begin_with, or --from MODEL",
    "[data]\nclip_s = 0.01": r"clip_s 0.01: 0, or 0.1 s and more, is needed",
    '[training]\nbatch_size = "64"': r"batch_size: '64': a number is needed, without quotes",
    '[model]\nbidirectional = "yes"': r"bidirectional: 'yes': true or false is needed",
    "[training]\nleast_steps = true": r"training.least_steps: true: a number is needed",
    "[model]\nlayers = true": r"model.layers: true: a number is needed",
    "[features]\nhigh_hz = 9000": r"features: high_hz 9000 must lie above low_hz 20",
    "[augment]\nsnr_db = [9, 3]": r"augment: snr_db \[9.0, 3.0\] must name the lowest ratio first",
    "[data]\nprotocol = 'v3-12'": r"data: protocol 'v3-12' is not one of v2-35",
    "training = 3": r"training = 3: a table of settings is needed",
    "[training]\nteachers = 'a'": r"training.teachers = 'a': a list is needed",
    "[training]\nepochs = 1e300": r"training.epochs = 1e\+300: input should be less than",
    "[training]\ntail_ms = 1e308": r"training.tail_ms = 1e\+308: input should be less than",
    f"[training]\nleast_steps = 1{'0' * 400}": r"training.least_steps = 10",
    "[sampling]\nunknown_weight = 1e308": r"sampling.unknown_weight = 1e\+308",
    "[sampling]\nloud_sound_share = 0.5": r"loud_sound_share needs data.other_sounds = true",
    "description = 3": r"description = 3: input should be a valid string",
    "[training\nepochs": r"not valid TOML",
    "a = 1\na = 2": r"not valid TOML",
    f"a{'.a' * 30_000} = 1": r"not valid TOML: a line has more than 1,000 dots",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_recipe_errors_are_one_sentence(text, message, written, capsys):
    name = written(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(name)
    text = str(caught.value)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    assert main(["train", name]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "source"),
    [
        (["training.seed=1", "training.epochs=abc"], "--set training.epochs=abc: training.epochs"),
        (["training.steps_at_least=5"], "--set training.steps_at_least=5: unknown key"),
        (["training=3"], "--set training=3: training = 3"),
        (
            ["training.seed=1", "stream.clips=3"],
            "{file}, with --set training.seed=1, with --set stream",
        ),
    ],
)
def test_a_mistake_in_an_override_is_not_blamed_on_the_file(written, overrides, source):
    name = written("[training]\nbatch_size = 64\n")
    with pytest.raises(UsageError) as caught:
        load_recipe(name, overrides)
    assert str(caught.value).startswith(source.format(file=name))


def test_many_known_keys_are_those_that_look_alike(written):
    with pytest.raises(UsageError) as caught:
        load_recipe(written(""), ["training.ratio=1"])
    known = str(caught.value).partition("; known: ")[2]
    assert "learning_rate" in known
    assert known.endswith(" more")
    assert len(known) < 200


def test_byte_order_mark_of_an_editor_is_ignored(written):
    assert load_recipe(written(b"\xef\xbb\xbf[training]\r\nepochs = 5\r\n")).training.epochs == 5


def test_binary_file_is_not_a_recipe(written):
    with pytest.raises(UsageError, match="not valid TOML"):
        load_recipe(written(b"\xff\xfe\x00"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", r"--set 'training.epochs': needs the form section.key=value"),
        ("=5", r"needs the form section.key=value"),
        ("training.=5", r"needs the form section.key=value"),
        ("training..epochs=5", r"needs the form section.key=value"),
        ("training.epoch=5", r"unknown key 'training.epoch' \(did you mean 'epochs'\?\)"),
        ("epochs=5", r"unknown key 'epochs'"),
        ("training.epochs=five", r"training.epochs = 'five'"),
        ("training.epochs=[5", r"training.epochs = '\[5'"),
        ("training.epochs.more=5", r"'epochs' is a value, not a section"),
        ("training.epochs=-1", r"training.epochs = -1: input should be greater than 0"),
        ("training.epochs=5\nseed=3", r"training.epochs"),
    ],
)
def test_invalid_override_is_refused(override, message, written):
    with pytest.raises(UsageError, match=message):
        load_recipe(written("[training]\nepochs = 9\n"), [override])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("speech-comands-v2-12", r"did you mean 'speech-commands-v2-12'\?"),
        ("nonsense", r"not one of the bundled recipes: .*gsc-open-12"),
        ("missing.toml", r"missing\.toml: no such recipe file"),
        ("", r"recipe '': not a file"),
        ("..", r"\.\.: is a directory, not a recipe"),
    ],
)
def test_missing_recipe_lists_the_bundled_ones(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_recipe(name)


def test_parse_recipe_names_its_source():
    with pytest.raises(UsageError, match=r"checkpoint: unknown key 'x'"):
        parse_recipe({"x": 1}, "checkpoint")
