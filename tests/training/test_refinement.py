"""Training on of a model for the same words: short, its weights kept unless better ones come."""

import json

import numpy as np
import pytest
import soundfile
import torch
from runs import CPU, QUICK, checkpoint, finished_run, make_trainer, metrics, quick_recipe
from safetensors.torch import load_file
from tones import RATE, shared_tones, tone

from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.protocols import make_task
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import DataError, InterruptedRunError
from speechgru.modelfile.safetensors import load_model, read_header, save_model
from speechgru.training import loop
from speechgru.training.data import is_alarm, sampling_weights
from speechgru.training.loop import train
from speechgru.training.recipe import SamplingConfig, parse_recipe
from speechgru.training.refinement import refined
from speechgru.training.run_directory import RunDirectory
from speechgru.training.stream_validation import StreamScore
from speechgru.training.talk import talk_recordings
from speechgru.training.trainer import Trainer


def recipe_from(run, **training):
    start = str(run / "model.safetensors")
    return quick_recipe(shared_tones(), begin_with=start, refine_steps=4, **training)


def test_same_words_take_few_steps_and_start_as_a_candidate(tmp_path):
    recipe = refined(recipe_from(finished_run(shared_tones()), validations=2))
    assert recipe.training.keep_start
    assert recipe.training.learning_rate == pytest.approx(QUICK["training"]["learning_rate"] / 8)
    result = train(recipe, tmp_path / "run", CPU)
    assert result.steps == 4
    assert [row["step"] for row in metrics(tmp_path / "run")] == [0, 2, 4]


def test_stop_and_kill_around_the_first_validation(tmp_path):
    recipe = refined(recipe_from(finished_run(shared_tones()), validations=2))
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(InterruptedRunError, match="stopped at step 0 of 4"):
        train(recipe, run.root, CPU, stop=lambda: run.recipe.exists())
    assert not run.model.exists()
    with pytest.raises(KeyboardInterrupt):  # as if killed after the first validation
        train(recipe, run.root, CPU, True, report=raise_interrupt)
    train(recipe, run.root, CPU, resume=True)
    assert [row["step"] for row in metrics(run.root)] == [0, 2, 4]


def test_a_refinement_without_its_model_is_not_resumed(tmp_path):
    """It holds the weights and the detector that training began with."""
    recipe = refined(recipe_from(finished_run(shared_tones()), validations=2))
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(InterruptedRunError):
        train(recipe, run.root, CPU, stop=run.model.exists)
    run.model.unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: the model that this run refines is"):
        train(recipe, run.root, CPU, resume=True)


def raise_interrupt(_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.2, 0.35), (0.5, 0.5)])
def test_running_speech_is_a_third_at_least_if_there_is_any(before, after):
    table = recipe_from(finished_run(shared_tones())).model_dump(mode="json")
    table["stream"] |= {"clips": 2, "talk_share": before}
    recipe = parse_recipe(table, "recipe")
    assert refined(recipe).stream.talk_share == pytest.approx(after)


def test_model_with_other_heads_is_not_refined():
    """What its new heads begin with was never trained, and must not be kept."""
    table = recipe_from(finished_run(shared_tones())).model_dump(mode="json")
    assert refined(parse_recipe(table, "recipe")).training.keep_start
    table["model"]["heads"] = ["classify", "ctc"]
    recipe = parse_recipe(table, "recipe")
    assert refined(recipe) == recipe


def test_candidate_lies_between_the_model_and_what_is_learnt(tmp_path):
    start = load_model(finished_run(shared_tones()) / "model.safetensors")
    start.log_prior[1] += 1.5
    save_model(start, tmp_path / "model.safetensors")
    trainer = make_trainer(refined(recipe_from(tmp_path, average_decay=0.0, learning_rate=0.5)))
    for name, tensor in trainer.candidate().state_dict().items():
        assert torch.equal(tensor, start.state_dict()[name]), name
    for _ in range(3):
        trainer.train_step()
    between, learnt = trainer.candidate().state_dict(), trainer.model.state_dict()
    moved = 0
    for name, tensor in start.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(between[name], 0.6 * tensor + 0.4 * learnt[name])
            moved += not torch.equal(tensor, learnt[name])
    assert moved > 5
    assert not torch.allclose(learnt["log_prior"], start.log_prior)


def test_resumed_run_still_knows_the_model_it_began_with(tmp_path):
    recipe = refined(recipe_from(finished_run(shared_tones()), validations=2))
    first = make_trainer(recipe)
    for _ in range(2):
        first.train_step()
    first.state.save(tmp_path / "checkpoint")
    second = Trainer(recipe, loop.prepare(recipe), CPU, warm_start=False)
    second.state.load(tmp_path / "checkpoint")
    for name, tensor in first.candidate().state_dict().items():
        assert torch.equal(tensor, second.candidate().state_dict()[name]), name


def test_the_state_policy_is_kept_also_by_a_resumed_run(tmp_path):
    start = load_model(finished_run(shared_tones()) / "model.safetensors")
    policy = {"mode": "silence", "silence_s": 0.4}
    start.metadata["state_policy"] = policy
    save_model(start, tmp_path / "model.safetensors")
    recipe = refined(recipe_from(tmp_path, validations=2))
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(InterruptedRunError):
        train(recipe, run.root, CPU, stop=run.model.exists)
    assert read_header(run.model)["metadata"]["state_policy"] == policy
    result = train(recipe, run.root, CPU, resume=True)
    assert read_header(result.model)["metadata"]["state_policy"] == policy


def test_other_trainings_keep_their_averaged_weights():
    trainer = make_trainer(recipe_from(finished_run(shared_tones())))
    assert trainer.candidate() is trainer.state.average.model


def test_weights_stay_where_nothing_better_is_found(tmp_path):
    before = finished_run(shared_tones())
    recipe = refined(recipe_from(before, validations=2, average_decay=0.0, learning_rate=4.0))
    result = train(recipe, tmp_path / "run", CPU)
    assert result.metrics["step"] == 0
    kept, start = load_file(result.model), load_file(before / "model.safetensors")
    assert kept.keys() == start.keys()
    for name in kept:
        np.testing.assert_array_equal(kept[name], start[name])
    last = checkpoint(tmp_path / "run")
    assert any((last[f"model.{k}"] != v).any() for k, v in kept.items() if f"model.{k}" in last)


def test_other_words_train_in_full(tmp_path):
    lines = shared_tones().read_text().splitlines()
    folder = shared_tones().parent
    fewer = [f"{folder}/{line}" for line in lines[1:] if ",mid," not in line]
    (tmp_path / "fewer.csv").write_text("\n".join([lines[0], *fewer]))
    recipe = recipe_from(finished_run(shared_tones()))
    table = recipe.model_dump(mode="json")
    table["data"]["directory"] = str(tmp_path / "fewer.csv")
    recipe = parse_recipe(table, "fewer")
    assert refined(recipe) == recipe


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(2.0, 40.0), (2.0, 10.0), (1.0, 20.0)], 2),  # of two that miss no more, the lower cost
        ([(2.0, 40.0), (3.0, 5.0), (2.0, 30.0)], 4),  # one more word missed is not better
        ([(2.0, 40.0), (3.0, 5.0), (2.0, 40.0)], 0),
        ([(2.0, 4.6875), (2.0, 4.6875), (2.0, 4.6875)], 0),  # the log has fewer digits
    ],
)
def test_weights_that_miss_more_words_never_replace_the_first(scores, best, tmp_path, monkeypatch):
    recipe = refined(recipe_from(finished_run(shared_tones()), validations=2))
    make, given = loop.Trainer, iter(scores)
    header = read_header(finished_run(shared_tones()) / "model.safetensors")
    first = DetectorConfig.parse(header["metadata"].get("decoder", {}), "the model")

    def validation(model, own):
        missed, cost = next(given)
        assert own == first
        return StreamScore(50.0, missed, 1.0, 96, 0.1, DetectorConfig(), cost)

    def trainer(*arguments, **options):
        made = make(*arguments, **options)
        made.stream_validation = validation
        return made

    monkeypatch.setattr(loop, "Trainer", trainer)
    result = train(recipe, tmp_path / "run", CPU)
    assert result.metrics["step"] == best


@pytest.fixture
def reviewed(tmp_path):
    """Word folders by three speakers, talk, two false alarms in speech and one in noise."""
    for word in ("low", "high"):
        for number, speaker in enumerate(("anna", "ben", "cleo")):
            write(tmp_path / "own" / word / f"{speaker}_1.wav", tone(word, number))
    for number in (1, 2):
        write(tmp_path / "own" / "_unknown_" / f"alarm_{number}.wav", tone("mid", number, 1.6))
    write(tmp_path / "own" / "_unknown_" / "dan_1.wav", tone("mid", 9, 6.0))
    write(tmp_path / "own" / "_background_noise_" / "alarm_1.wav", tone("mid", 5, 0.4))
    return tmp_path / "own"


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


def test_false_alarms_are_unknown_cut_where_they_fired(reviewed):
    task = make_task("folder", open_corpus(reviewed))
    alarms = [example for example in task.split("training") if is_alarm(example)]
    assert [(e.path.parent.name, e.path.name) for e in alarms] == [
        ("_unknown_", "alarm_1.wav"),
        ("_unknown_", "alarm_2.wav"),
        ("_background_noise_", "alarm_1.wav"),
    ]
    assert {(example.label, example.word) for example in alarms} == {("_unknown_", "_unknown_")}
    assert [e.start_s for e in alarms] == pytest.approx([1.0, 1.0, 0.0])  # 1.6 s - 0.5 s - 0.1 s


def test_false_alarms_weigh_the_same_however_much_other_speech_there_is(reviewed):
    task = make_task("folder", open_corpus(reviewed))
    examples = task.split("training")
    config = SamplingConfig(unknown_weight=3.0)
    weights = sampling_weights(examples, task.labels, config)
    of = {"alarms": 0.0, "low": 0.0, "talk": 0.0}
    for example, weight in zip(examples, weights, strict=True):
        kind = "alarms" if is_alarm(example) else example.label
        kind = "talk" if kind == "_unknown_" else kind
        of[kind] = of.get(kind, 0.0) + weight
    assert weights.sum() == pytest.approx(1.0)
    assert of["alarms"] / of["low"] == pytest.approx(0.3)
    assert of["talk"] / of["low"] == pytest.approx(3.0)


def test_false_alarms_are_in_the_running_speech_several_times(reviewed):
    recipe = parse_recipe(QUICK | {"data": {"directory": str(reviewed)}}, "quick")
    data = loop.prepare(recipe)
    names = [path.name for path in talk_recordings(data, "training")]
    assert names.count("alarm_1.wav") == 10  # of speech and of noise
    assert names.count("alarm_2.wav") == 5
    assert names.count("dan_1.wav") == 1
    assert talk_recordings(data, "validation") == ()


def test_command_says_that_it_refines(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = recipe_from(finished_run(shared_tones()), validations=1).model_dump(mode="json")
    table["training"]["begin_with"] = ""
    (tmp_path / "quick.toml").write_text(parse_recipe(table, "quick").to_toml())
    start = str(finished_run(shared_tones()))
    command = ["train", "quick.toml", "--device", "cpu", "--json", "--from", start]
    assert main([*command, "--out", "one"]) == 0
    printed = capsys.readouterr()
    assert "the same words: 4 steps" in " ".join(printed.err.split())
    assert json.loads(printed.out)["steps"] == 4
    assert main([*command, "--out", "two", "--set", "training.refine_steps=0"]) == 0
    printed = capsys.readouterr()
    assert "the same words" not in printed.err
    assert json.loads(printed.out)["steps"] == 30
