"""Training: it learns, it repeats itself, and its parts do what they promise."""

import math
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from runs import CPU, assert_same_run, metrics, quick_recipe
from tones import TONES_HZ, write_tones

from speechgru.corpora import Example
from speechgru.decoding import isolated_word
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.features import FeatureConfig
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model import ModelConfig, SpeechGRU
from speechgru.modelfile import load_model
from speechgru.training import board, loop
from speechgru.training.average import WeightAverage
from speechgru.training.batches import (
    NO_TARGET,
    NO_WORD,
    has_anagram,
    outputs_of,
    sampling_weights,
    unknown_words,
)
from speechgru.training.preparation import prepare
from speechgru.training.recipe import Recipe, SamplingConfig, TrainingConfig, load_recipe
from speechgru.training.trainer import STAGES, Trainer, make_optimiser, schedule


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHGRU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def trained(tones, tmp_path_factory) -> loop.TrainingResult:
    return loop.train(quick_recipe(tones), tmp_path_factory.mktemp("runs") / "first", CPU)


@pytest.fixture(scope="module")
def trainer(tones) -> Trainer:
    """Not to be stepped."""
    return make_trainer(quick_recipe(tones))


def make_trainer(recipe: Recipe) -> Trainer:
    return Trainer(recipe, prepare(recipe), CPU)


# A run.


def test_it_learns_words_of_speakers_it_never_heard(trained, tones):
    model = load_model(trained.model)
    task = prepare(quick_recipe(tones)).task
    samples = torch.from_numpy(
        np.stack([soundfile.read(e.path, dtype="float32")[0] for e in task.split("testing")])
    )
    answers = model(samples)[0][:, -5:].mean(dim=1).argmax(dim=1)
    hits = [model.labels[a] == e.label for a, e in zip(answers, task.split("testing"), strict=True)]
    assert len(hits) == 18
    assert sum(hits) >= 16


def test_a_run_says_what_it_did(trained, tones):
    rows = metrics(trained.run)
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    assert rows[-1]["loss"] < rows[0]["loss"]
    best = max(rows, key=lambda row: row["balanced_accuracy"])
    assert trained.metrics["step"] == best["step"]
    assert trained.metrics["validation"]["balanced_accuracy"] == best["balanced_accuracy"] > 0.9
    assert trained.metrics["validation"]["n"] == 6
    assert (trained.steps, trained.early) == (30, False)
    assert trained.seconds > 0
    assert load_recipe(str(trained.run / "recipe.toml")) == quick_recipe(tones)
    log = (trained.run / "train.log").read_text()
    assert "step 0 of 30 on cpu: folder" in log
    assert f"done: best {best['balanced_accuracy']:.4f} at step {best['step']}" in log


def test_the_model_says_where_it_comes_from(trained, tones):
    metadata = load_model(trained.model).metadata
    assert metadata["protocol"] == "folder"
    assert (metadata["clip_s"], metadata["tail_s"]) == (0.5, 0.2)
    assert metadata["metrics"] == trained.metrics
    origin = metadata["provenance"]
    assert origin["data"]["clips"] == {"training": 14, "validation": 6, "testing": 18}
    assert origin["data"]["fingerprint"] == prepare(quick_recipe(tones)).fingerprint
    assert origin["recipe"]["training"] == quick_recipe(tones).training.model_dump()
    assert str(tones.parent) not in str(metadata)  # no one's folders are published


def test_the_same_seed_gives_the_same_bits_and_another_does_not(trained, tones, tmp_path):
    again = loop.train(quick_recipe(tones), tmp_path / "again", CPU)
    assert_same_run(again.run, trained.run)
    assert again.model.read_bytes() == trained.model.read_bytes()
    other = loop.train(quick_recipe(tones, seed=1), tmp_path / "other", CPU)
    assert other.model.read_bytes() != trained.model.read_bytes()


def test_what_is_kept_is_the_average_that_was_best(tones, tmp_path):
    """With the last weights as the average, the kept model is the last one if that is the best."""
    recipe = quick_recipe(tones, average_decay=0.0, validations=1)
    result = loop.train(recipe, tmp_path / "run", CPU)
    trainer = make_trainer(recipe)
    trainer.state.load(result.run / "last" / "checkpoint.safetensors")
    last = trainer.model.state_dict()
    for name, tensor in load_model(result.model).state_dict().items():
        assert not tensor.is_floating_point() or torch.equal(tensor, last[name]), name


def test_early_stopping_waits_for_as_many_validations_as_asked(tones, tmp_path):
    """At a learning rate of next to nothing no validation is better than the first."""
    recipe = quick_recipe(tones, learning_rate=1e-12, patience=2)
    result = loop.train(recipe, tmp_path / "run", CPU)
    assert (result.steps, result.early) == (15, True)
    assert len(metrics(result.run)) == 3
    assert result.metrics["step"] == 5


def test_a_run_that_gave_up_only_at_its_end_did_not_end_early(tones, tmp_path):
    recipe = quick_recipe(tones, learning_rate=1e-12, patience=5)
    assert loop.train(recipe, tmp_path / "run", CPU).early is False


def test_reports_are_in_order_and_end_at_the_end(tones, tmp_path):
    heard: list[loop.Status] = []
    loop.train(quick_recipe(tones), tmp_path / "run", CPU, report=heard.append)
    assert [s.step for s in heard] == sorted(s.step for s in heard)
    assert heard[0].score is None
    last = heard[-1]
    assert (last.step, last.steps, last.seconds_left) == (30, 30, 0)
    assert last.score is not None
    assert last.score.balanced_accuracy == metrics(tmp_path / "run")[-1]["balanced_accuracy"]
    assert last.clips_per_second > 0
    assert 0 < last.learning_rate < heard[0].learning_rate <= 0.02


def test_a_loss_that_is_not_finite_ends_the_run(tones, tmp_path):
    with pytest.raises(SpeechGRUError, match=r"the loss is (nan|inf) at step \d+; a lower train"):
        loop.train(quick_recipe(tones, learning_rate=1e30), tmp_path / "run", CPU)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_folder_with_a_run_is_left_alone(trained, tones):
    before = (trained.run / "recipe.toml").read_bytes(), trained.model.read_bytes()
    with pytest.raises(UsageError, match=r"first: holds a run already; --resume .*first goes on"):
        loop.train(quick_recipe(tones, seed=3), trained.run, CPU)
    assert before == ((trained.run / "recipe.toml").read_bytes(), trained.model.read_bytes())


def test_curves_are_written_where_tensorboard_is_installed(trained):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained.run / "tensorboard"))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("validation_accuracy")]
    assert found == [(r["step"], pytest.approx(r["accuracy"])) for r in metrics(trained.run)]
    assert {"loss", "learning_rate", "clips_per_second"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_nothing_is_missing(trained, tones, tmp_path, monkeypatch):
    monkeypatch.setattr(board, "find_spec", lambda name: None)
    again = loop.train(quick_recipe(tones), tmp_path / "run", CPU)
    assert_same_run(again.run, trained.run)
    assert not (tmp_path / "run" / "tensorboard").exists()


# The data.


def test_a_recipe_without_data_says_so():
    with pytest.raises(UsageError, match=r"no data: --data DIR"):
        prepare(Recipe())


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_split_without_clips_is_named_before_anything_is_decoded(tones, tmp_path, split):
    lines = [f"{tones.parent}/{line}" for line in tones.read_text().splitlines()[1:]]
    kept = [line for line in lines if not line.endswith(split)]
    manifest = tmp_path / "less.csv"
    manifest.write_text("\n".join(["file,word,speaker,split", *kept]))
    decoded: list[int] = []
    with pytest.raises(DataError, match=f"{split} split has no clips"):
        prepare(quick_recipe(manifest), lambda done, total: decoded.append(done))
    assert not decoded


def test_the_recipe_can_set_the_clips_length(tones):
    recipe = quick_recipe(tones)
    longer = recipe.model_copy(update={"data": recipe.data.model_copy(update={"clip_s": 0.8})})
    assert prepare(longer).task.clip_s == 0.8
    assert make_trainer(longer).batches.clips.clip_samples == 12_800


# What is drawn.


def examples(counts: dict[tuple[str, str], int]) -> tuple[Example, ...]:
    return tuple(
        Example(None, label, word, f"speaker{i}")
        for (label, word), count in counts.items()
        for i in range(count)
    )


def drawn(counts: dict[tuple[str, str], int], **config: float) -> Counter[tuple[str, str]]:
    """The share of each label and word."""
    chosen = examples(counts)
    labels = tuple(dict.fromkeys(e.label for e in chosen))
    weights = sampling_weights(chosen, labels, SamplingConfig(**config))
    assert weights.sum() == pytest.approx(1)
    shares: Counter[tuple[str, str]] = Counter()
    for example, weight in zip(chosen, weights, strict=True):
        shares[example.label, example.word] += weight
    return shares


def test_every_word_is_drawn_equally_often():
    shares = drawn({("yes", "yes"): 1, ("no", "no"): 10, ("up", "up"): 1_000})
    assert list(shares.values()) == pytest.approx([1 / 3] * 3)


def test_unknown_and_silence_are_drawn_as_often_as_asked():
    counts = {("yes", "yes"): 5, (SILENCE, SILENCE): 7, (UNKNOWN, "bed"): 9, (UNKNOWN, "cat"): 36}
    shares = drawn(counts, unknown_weight=3, silence_weight=0.5)
    assert shares["yes", "yes"] == pytest.approx(1 / 4.5)
    assert shares[SILENCE, SILENCE] == pytest.approx(0.5 / 4.5)
    assert shares[UNKNOWN, "bed"] + shares[UNKNOWN, "cat"] == pytest.approx(3 / 4.5)
    # The root of four times the clips.
    assert shares[UNKNOWN, "cat"] == pytest.approx(2 * shares[UNKNOWN, "bed"])


def test_a_label_without_a_clip_is_named():
    with pytest.raises(DataError, match=r"'up' has no training clip"):
        sampling_weights(examples({("yes", "yes"): 2}), ("yes", "up"), SamplingConfig())


def test_a_word_without_training_clips_is_one_sentence_of_train(tmp_path):
    manifest = write_tones(tmp_path)
    text = manifest.read_text().replace("low,a,training", "low,a,validation")
    for speaker in "bcd":
        text = text.replace(f"low,{speaker},training", f"low,{speaker},validation")
    manifest.write_text(text)
    with pytest.raises(DataError, match="'low' has no training clip"):
        loop.train(quick_recipe(manifest), tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_unknown_words_have_outputs_of_their_own():
    labels = (SILENCE, UNKNOWN, "yes")
    model = SpeechGRU(ModelConfig(hidden=4), FeatureConfig(), labels, ("bed", "cat"))
    said = examples(
        {("yes", "yes"): 1, (UNKNOWN, "cat"): 1, (UNKNOWN, "dog"): 1, (SILENCE, "_"): 1}
    )
    assert outputs_of(said, model) == [2, 4, 1, 0]


def test_the_unknown_words_are_those_of_training(tones):
    task = prepare(quick_recipe(tones)).task
    assert unknown_words(task) == ()
    splits = {"training": examples({(UNKNOWN, "cat"): 2, (UNKNOWN, "bed"): 1, ("yes", "yes"): 1})}
    assert unknown_words(replace(task, splits=splits)) == ("bed", "cat")


def test_a_batch_asks_for_the_clips_end_only(trainer):
    batch = trainer.batches.draw(32)
    assert batch.features.shape == (32, 50, 20)
    assert batch.targets.shape == (32, 25)
    assert (batch.targets[:, :15] == NO_TARGET).all()  # 200 ms are ten steps
    words = batch.targets[:, 15:]
    assert (words == words[:, :1]).all()
    assert set(words.unique().tolist()) == set(range(5))  # silence, made words, three tones
    assert not any(part.any() for part in batch.state.values())
    assert torch.equal(batch.words, words[:, :1].masked_fill(words[:, :1] == 0, NO_WORD))


def test_the_generator_is_all_that_a_batch_depends_on(trainer):
    before = trainer.batches.clips.generator.get_state()
    first, second = trainer.batches.draw(8), trainer.batches.draw(8)
    trainer.batches.clips.generator.set_state(before)
    torch.manual_seed(99)
    again = trainer.batches.draw(8)
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.targets, first.targets)
    assert not torch.equal(second.features, first.features)


def test_drawing_leaves_the_clips_as_they_are(trainer):
    before = trainer.batches.clips.clips.clone()
    trainer.batches.draw(64)
    assert torch.equal(trainer.batches.clips.clips, before)


def test_words_that_are_turned_round_become_unknown(trainer, monkeypatch):
    """A share of a batch is played with its halves swapped, or backwards, as no word at all."""
    clips = trainer.batches.clips
    monkeypatch.setattr(clips.model, "vocabulary", type(clips.model.vocabulary)(("a", UNKNOWN)))
    sampling = clips.recipe.sampling.model_copy(update={"made_unknown_share": 0.5})
    monkeypatch.setattr(clips, "recipe", clips.recipe.model_copy(update={"sampling": sampling}))
    samples, outputs = torch.randn(8, 400), torch.zeros(8, dtype=torch.long)
    made, spans = samples.clone(), torch.tensor([[100, 150]] * 8)
    clips.make_unknown(made, outputs, spans, torch.tensor([True, True, True, False] * 2))
    assert outputs.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert torch.equal(made[2], samples[2].flip(0))
    assert torch.equal(made[3:], samples[3:])
    assert sorted(made[0].tolist()) == sorted(samples[0].tolist())
    assert not torch.equal(made[0], samples[0])
    assert spans.tolist() == [[100, 150]] * 2 + [[250, 300]] + [[100, 150]] * 5


def test_the_shares_of_the_labels_are_those_of_the_draws(trainer):
    """Counted over many batches: silence, what was made of words, and the tones."""
    shares = trainer.batches.label_shares()
    assert shares.sum().item() == pytest.approx(1.0)
    size = trainer.recipe.training.batch_size
    targets = torch.cat([trainer.batches.vary(size).targets[:, -1] for _ in range(400)])
    counted = torch.bincount(targets, minlength=5) / len(targets)
    torch.testing.assert_close(shares.float(), counted, atol=0.02, rtol=0)


def test_words_of_the_same_letters_are_found():
    labels = ("no", "on", "yes")
    assert [has_anagram(word, labels) for word in labels] == [True, True, False]


# The step.


def test_a_step_tells_its_stages_in_order(tones):
    trainer, heard = make_trainer(quick_recipe(tones)), []
    before = [p.clone() for p in trainer.model.parameters()]
    loss = trainer.train_step(heard.append)
    assert tuple(heard) == STAGES
    assert loss.isfinite()
    assert trainer.state.progress.step == 1
    changed = [
        not torch.equal(p, q) for p, q in zip(trainer.model.parameters(), before, strict=True)
    ]
    assert all(changed)


def test_the_loss_is_the_smoothed_cross_entropy_of_what_is_asked(trainer):
    """By hand: (1 - e) -log p(word) + e mean over labels of -log p, at the asked steps."""
    torch.manual_seed(0)
    trainer.model.eval()
    batch = trainer.batches.draw(4)
    log_posteriors, _ = trainer.model.encode(batch.features, batch.state)
    losses = []
    for steps, targets in zip(log_posteriors, batch.targets, strict=True):
        for scores, target in zip(steps, targets, strict=True):
            if target != NO_TARGET:
                losses.append(-0.9 * scores[target] - 0.1 * scores.mean())
    assert len(losses) == 40
    loss, _ = trainer.loss(batch)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_the_learning_rate_rises_and_falls():
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
def test_the_shortest_runs_have_a_learning_rate_too(steps):
    for warm_up in (0.0, 0.5, 0.99):
        rates = [schedule(s, steps, TrainingConfig(warm_up=warm_up)) for s in range(steps)]
        assert all(0 < rate <= 1 for rate in rates)


def test_weights_decay_but_not_biases_and_norms(trainer):
    groups = make_optimiser(trainer.model, TrainingConfig(weight_decay=0.3)).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        matrix = (name.endswith("weight") and "norm" not in name) or "weight_" in name
        assert decays[id(parameter)] == (0.3 if matrix else 0.0), name


def test_the_average_is_the_sum_it_is_said_to_be():
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


def test_validation_scores_clips_as_recognition_does(trained, trainer):
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


def test_validation_balances_labels_that_differ_in_clips(trained, trainer, monkeypatch):
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


def test_validation_does_not_depend_on_its_batches(trained, trainer, monkeypatch):
    model = load_model(trained.model)
    before = trainer.validation(model)
    monkeypatch.setattr(trainer.validation, "batch", 2)
    after = trainer.validation(model)
    assert after.loss == pytest.approx(before.loss, abs=1e-5)
    assert after.accuracy == before.accuracy
