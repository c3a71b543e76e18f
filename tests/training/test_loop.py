"""Training: runs, steps, optimization and validation."""

import math
from itertools import chain

import numpy as np
import pytest
import soundfile
import torch
from runs import CPU, assert_same_run, make_trainer, metrics, quick_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tones import TONES_HZ

from speechgru.decoding.events import isolated_word
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.modelfile.safetensors import load_model
from speechgru.training import loop, run_directory, validation
from speechgru.training.batches import (
    NO_TARGET,
)
from speechgru.training.data import prepare
from speechgru.training.optimiser import WeightAverage, make_optimiser, schedule
from speechgru.training.recipe import TrainingConfig, load_recipe, parse_recipe
from speechgru.training.trainer import STAGES

pytestmark = pytest.mark.usefixtures("quick_streams")


@pytest.fixture(scope="module")
def trained(tones, tmp_path_factory) -> loop.TrainingResult:
    return loop.train(quick_recipe(tones), tmp_path_factory.mktemp("runs") / "first", CPU)


# A run.


def test_model_recognizes_new_speakers(trained, tones):
    model = load_model(trained.model)
    task = prepare(quick_recipe(tones)).task
    samples = torch.from_numpy(
        np.stack([soundfile.read(e.path, dtype="float32")[0] for e in task.split("testing")])
    )
    answers = model(samples)[0][:, -5:].mean(dim=1).argmax(dim=1)
    hits = [model.labels[a] == e.label for a, e in zip(answers, task.split("testing"), strict=True)]
    assert len(hits) == 18
    assert sum(hits) >= 16


def test_run_directory_of_a_finished_run(trained, tones):
    rows = metrics(trained.run)
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["training_loss"] < rows[0]["training_loss"]
    assert [row["epoch"] for row in rows] == pytest.approx(
        [s * 16 / 14 for s in range(5, 31, 5)], abs=1e-3
    )
    assert rows[-1]["learning_rate"] == pytest.approx(0.01 * 0.02)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    best = max(rows, key=lambda row: (row["balanced_accuracy"], -row["loss"]))
    # The interesting case: several validations without a mistake.
    assert sum(row["balanced_accuracy"] == best["balanced_accuracy"] for row in rows) > 1
    assert trained.metrics["step"] == best["step"]
    assert trained.metrics["validation"]["balanced_accuracy"] == best["balanced_accuracy"] > 0.9
    assert trained.metrics["validation"]["n"] == 6
    assert (trained.steps, trained.early) == (30, False)
    assert trained.seconds > 0
    assert load_recipe(str(trained.run / "recipe.toml")) == quick_recipe(tones)
    log = (trained.run / "train.log").read_text()
    assert "step 0 of 30 on cpu: folder" in log
    assert f"done: best {best['balanced_accuracy']:.4f} at step {best['step']}" in log


def test_model_has_its_provenance(trained, tones):
    metadata = load_model(trained.model).metadata
    assert metadata["protocol"] == "folder"
    assert (metadata["clip_s"], metadata["tail_s"]) == (0.5, 0.2)
    assert metadata["metrics"] == trained.metrics
    origin = metadata["provenance"]
    assert origin["data"]["clips"] == {"training": 14, "validation": 6, "testing": 18}
    assert origin["data"]["fingerprint"] == prepare(quick_recipe(tones)).fingerprint
    assert origin["recipe"]["training"] == quick_recipe(tones).training.model_dump(mode="json")
    assert str(tones.parent) not in str(metadata)  # nobody's paths are published


def test_training_is_deterministic_for_a_seed(trained, tones, tmp_path):
    again = loop.train(quick_recipe(tones), tmp_path / "again", CPU)
    assert_same_run(again.run, trained.run)
    assert again.model.read_bytes() == trained.model.read_bytes()
    other = loop.train(quick_recipe(tones, seed=2), tmp_path / "other", CPU)
    assert other.model.read_bytes() != trained.model.read_bytes()


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("clips", [0, 2], ids=["clips", "streams"])
@pytest.mark.usefixtures("threads")
def test_training_is_deterministic_with_threads(tones, clips):
    """With a batch so large that threads share its rows."""
    table = quick_recipe(tones, batch_size=96).model_dump() | {"stream": {"clips": clips}}
    runs = []
    for _ in range(2):
        trainer = make_trainer(parse_recipe(table, "recipe"))
        for _ in range(4):
            trainer.train_step()
        runs.append(trainer.state.average.model.state_dict())
    for name, tensor in runs[0].items():
        assert torch.equal(runs[1][name], tensor), name


def test_model_has_the_best_averaged_weights(tones, tmp_path):
    """With decay 0 and one validation, the model has the last weights."""
    recipe = quick_recipe(tones, average_decay=0.0, validations=1)
    result = loop.train(recipe, tmp_path / "run", CPU)
    trainer = make_trainer(recipe)
    trainer.state.load(result.run / "last" / "checkpoint.safetensors")
    last = trainer.model.state_dict()
    for name, tensor in load_model(result.model).state_dict().items():
        assert not tensor.is_floating_point() or torch.equal(tensor, last[name]), name


def test_patience_stops_the_run_early(tones, tmp_path):
    """At a tiny learning rate no validation is better than the first."""
    recipe = quick_recipe(tones, learning_rate=1e-12, patience=2)
    result = loop.train(recipe, tmp_path / "run", CPU)
    assert (result.steps, result.early) == (15, True)
    assert len(metrics(result.run)) == 3
    assert result.metrics["step"] == 5


def test_run_that_uses_all_steps_did_not_stop_early(tones, tmp_path):
    recipe = quick_recipe(tones, learning_rate=1e-12, patience=5)
    assert loop.train(recipe, tmp_path / "run", CPU).early is False


def test_reports_are_in_order_until_the_last_step(tones, tmp_path):
    reports: list[loop.Status] = []
    loop.train(quick_recipe(tones), tmp_path / "run", CPU, report=reports.append)
    assert [s.step for s in reports] == sorted(s.step for s in reports)
    assert reports[0].score is None
    last = reports[-1]
    assert (last.step, last.steps, last.seconds_left) == (30, 30, 0)
    assert last.score is not None
    assert last.score.balanced_accuracy == metrics(tmp_path / "run")[-1]["balanced_accuracy"]
    assert last.clips_per_second > 0
    assert 0 < last.learning_rate < reports[0].learning_rate <= 0.02


def test_loss_that_is_not_finite_ends_the_run(tones, tmp_path):
    with pytest.raises(SpeechGRUError, match=r"the loss is (nan|inf) at step \d+; a lower train"):
        loop.train(quick_recipe(tones, learning_rate=1e30), tmp_path / "run", CPU)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_weights_that_give_nan_end_the_run(tones, tmp_path):
    recipe = quick_recipe(tones, learning_rate=1e30, validations=30)
    with pytest.raises(SpeechGRUError, match=r"unusable, at step 1; a lower training") as caught:
        loop.train(recipe, tmp_path / "run", CPU)
    assert caught.value.exit_code == 1
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_folder_with_a_run_is_refused(trained, tones):
    before = (trained.run / "recipe.toml").read_bytes(), trained.model.read_bytes()
    with pytest.raises(
        UsageError, match="first: holds a run already; use another --out, or resume"
    ):
        loop.train(quick_recipe(tones, seed=3), trained.run, CPU)
    assert before == ((trained.run / "recipe.toml").read_bytes(), trained.model.read_bytes())


def test_tensorboard_curves(trained):
    events = EventAccumulator(str(trained.run / "tensorboard"))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("validation_accuracy")]
    assert found == [(r["step"], pytest.approx(r["accuracy"])) for r in metrics(trained.run)]
    assert {"loss", "learning_rate", "clips_per_second"} <= set(events.Tags()["scalars"])


def test_training_without_tensorboard(trained, tones, tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "find_spec", lambda name: None)
    again = loop.train(quick_recipe(tones), tmp_path / "run", CPU)
    assert_same_run(again.run, trained.run)
    assert not (tmp_path / "run" / "tensorboard").exists()


# The step.


def test_train_step_marks_its_stages(tones):
    trainer, stages = make_trainer(quick_recipe(tones)), []
    before = [p.clone() for p in trainer.model.parameters()]
    loss = trainer.train_step(stages.append)
    assert tuple(stages) == STAGES
    assert loss.isfinite()
    assert trainer.state.progress.step == 1
    changed = [
        not torch.equal(p, q) for p, q in zip(trainer.model.parameters(), before, strict=True)
    ]
    assert all(changed)


def test_loss_is_smoothed_cross_entropy_at_the_targets(trainer):
    """(1 - e) -log p(word) + e mean over labels of -log p, at the steps with a target."""
    torch.manual_seed(0)
    trainer.model.eval()
    batch = trainer.batches.draw(4)
    encoded, _ = trainer.model.encode(batch.features, batch.state)
    log_posteriors = trainer.model.apply_heads(encoded)
    losses = []
    for steps, targets in zip(log_posteriors, batch.targets, strict=True):
        for scores, target in zip(steps, targets, strict=True):
            if target != NO_TARGET:
                losses.append(-0.9 * scores[target] - 0.1 * scores.mean())
    assert len(losses) == 40
    loss, _ = trainer.loss(batch)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_learning_rate_restarts_when_streams_begin():
    config = TrainingConfig(warm_up=0.1)
    rates = [schedule(step, 1_000, config, streams_begin=400) for step in range(1_000)]
    assert rates[:400] == [schedule(step, 400, config) for step in range(400)]
    assert rates[400:] == [schedule(step, 600, config) / 2 for step in range(600)]


def test_learning_rate_schedule():
    config = TrainingConfig(warm_up=0.1)
    rates = [schedule(step, 1_000, config) for step in range(1_000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[49] == pytest.approx(0.5)
    assert max(rates) == rates[99] == 1
    assert np.diff(rates[:100]).min() > 0
    assert np.diff(rates[100:]).max() < 0
    assert rates[549] == pytest.approx((1 + 0.01) / 2, abs=0.01)
    assert rates[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_learning_rate_of_very_short_runs(steps):
    for warm_up in (0.0, 0.5, 0.99):
        rates = [schedule(s, steps, TrainingConfig(warm_up=warm_up)) for s in range(steps)]
        assert all(0 < rate <= 1 for rate in rates)


def test_weight_decay_excludes_biases_and_norms(trainer):
    groups = make_optimiser(trainer.model, TrainingConfig(weight_decay=0.3)).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        matrix = (name.endswith("weight") and "norm" not in name) or "weight_" in name
        assert decays[id(parameter)] == (0.3 if matrix else 0.0), name


def test_weight_average_follows_its_formula():
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.9)
    expected = model.weight.item()
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(math.sin(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * math.sin(step)
        assert average.model.weight.item() == pytest.approx(expected, abs=1e-5)
    assert not average.model.weight.requires_grad


# Validation.


def test_validation_equals_recognition(trained, trainer):
    """The mean of the last log-posteriors, argmax; balanced over the labels."""
    model, validation = load_model(trained.model), trainer.validation
    task = trainer.data.task
    hits: dict[str, list[bool]] = {word: [] for word in TONES_HZ}
    losses = []
    for example in task.split("validation"):
        samples, _ = soundfile.read(example.path, dtype="float32", always_2d=True)
        scores = isolated_word(model(torch.from_numpy(samples.T))[0][0].detach().numpy(), 10)
        hits[example.label].append(model.labels[scores.argmax()] == example.label)
        losses.append(-scores[model.vocabulary.id(example.label)])
    score = validation(model)
    assert score.accuracy == pytest.approx(np.mean([*chain(*hits.values())]))
    assert score.balanced_accuracy == pytest.approx(np.mean([np.mean(h) for h in hits.values()]))
    assert score.loss == pytest.approx(np.mean(losses), abs=1e-3)
    assert score.n == 6


def test_balanced_accuracy_with_unequal_labels(trained, trainer, monkeypatch):
    """A model that always says one word has a balanced accuracy of one in three."""
    validation = trainer.validation
    monkeypatch.setattr(validation, "targets", torch.tensor([2, 2, 2, 2, 3, 4]))
    model = load_model(trained.model)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0, 0, 9.0, 0, 0]))
    score = validation(model)
    assert score.accuracy == pytest.approx(4 / 6)
    assert score.balanced_accuracy == pytest.approx(1 / 3)


def test_validation_does_not_depend_on_the_batch_size(trained, trainer, monkeypatch):
    model = load_model(trained.model)
    before = trainer.validation(model)
    monkeypatch.setattr(validation, "_BATCH", 2)
    after = trainer.validation(model)
    assert after.loss == pytest.approx(before.loss, abs=1e-5)
    assert after.accuracy == before.accuracy
