"""Training on the answers of other models: what is taught, where, and that runs stay exact."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from runs import CPU, assert_same_run, make_trainer, metrics, quick_recipe
from tones import untrained_model, write_tones

from speechgru.cli import main
from speechgru.errors import DataError, InterruptedRunError, UsageError
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.safetensors import load_model, save_model
from speechgru.training import loop
from speechgru.training.losses import distillation_loss
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.rows import NO_TARGET, Batch
from speechgru.training.run_directory import RunDirectory
from speechgru.training.teachers import Teachers

pytestmark = pytest.mark.usefixtures("quick_streams")


@pytest.fixture(scope="module")
def teacher(quick_run: Path) -> Path:
    """A model that tells the tones apart."""
    return quick_run / "model.safetensors"


def student_recipe(tones: Path, *teachers: Path, **sections: dict) -> Recipe:
    table = quick_recipe(tones, seed=3).model_dump(mode="json")
    table["training"]["teachers"] = [str(teacher) for teacher in teachers]
    for name, section in sections.items():
        table[name] |= section
    return parse_recipe(table, "recipe")


def saved(model: SpeechGRU, folder: Path, name: str = "teacher") -> Path:
    path = folder / f"{name}.safetensors"
    save_model(model, path)
    return path


def changed(path: Path, folder: Path, **sections: dict) -> Path:
    """A network like a model's with other settings, and random weights."""
    trained = load_model(path)
    torch.manual_seed(1)
    model = SpeechGRU(
        trained.config.model_copy(update=sections.get("model", {})),
        trained.features.config.model_copy(update=sections.get("features", {})),
        sections.get("labels", trained.labels),
        sections.get("unknown_words", trained.unknown_words),
        trained.metadata,
    )
    return saved(model, folder, "changed")


# What is taught.


def test_a_teacher_with_the_same_features_answers_what_it_would_itself(tones, teacher):
    trainer = make_trainer(student_recipe(tones, teacher))
    batch = trainer.batches.draw(16)
    answers, state = trainer.teachers(batch)
    model = load_model(teacher)
    context = model.initial_state(16)
    own = batch.features * trainer.model.deviation + trainer.model.mean
    encoded, _ = model.encode((own - model.mean) / model.deviation, context)
    expected = model.apply_heads(encoded).exp()
    assert answers.shape == (*batch.targets.shape, len(model.labels))
    followed = batch.rows.wordless == NO_TARGET
    torch.testing.assert_close(answers[followed], expected[followed], atol=1e-5, rtol=0)
    assert state.keys() == trainer.teachers.initial_state(1).keys()
    assert not answers.is_inference()


def test_false_alarms_of_a_teacher_are_not_taught(tones, teacher):
    """In silence and in running speech a word may not be half as likely as all that is none."""
    trainer = make_trainer(student_recipe(tones, teacher))
    batch, model = trainer.batches.draw(16), trainer.model
    before, _ = trainer.teachers(batch)
    batch.rows.wordless[:] = silence = model.vocabulary.id("_silence_")
    answers, _ = trainer.teachers(batch)
    words = before[..., trainer.teachers.words]
    is_alarm = words.amax(dim=2) > 0.5 * (1 - words.sum(dim=2))
    assert is_alarm.any()
    assert not is_alarm.all()
    assert torch.equal(answers[~is_alarm], before[~is_alarm])
    assert (answers[is_alarm].argmax(dim=1) == silence).all()
    assert (answers[is_alarm].amax(dim=1) == 1).all()


def test_classes_are_matched_by_name(tones, teacher, tmp_path):
    """A teacher whose labels have another order gives the same answers."""
    model = load_model(teacher)
    order = torch.arange(len(model.labels)).roll(2)
    other = SpeechGRU(model.config, model.features.config, [model.labels[i] for i in order])
    weights = model.state_dict()
    for name in ("head.weight", "head.bias", "log_prior"):
        weights[name] = weights[name][order]
    other.load_state_dict(weights)
    trainer = make_trainer(student_recipe(tones, teacher, saved(other, tmp_path)))
    batch = trainer.batches.draw(16)
    answers, _ = trainer.teachers(batch)
    alone, _ = make_trainer(student_recipe(tones, teacher)).teachers(batch)
    torch.testing.assert_close(answers, alone)


def test_other_shares_of_labels_are_allowed_for(tones, teacher, tmp_path):
    model = load_model(teacher)
    trainer = make_trainer(student_recipe(tones, teacher))
    batch = trainer.batches.draw(16)
    before, _ = trainer.teachers(batch)
    low = trainer.model.vocabulary.id("low")
    model.log_prior[model.vocabulary.id("low")] += 2
    other = make_trainer(student_recipe(tones, saved(model, tmp_path)))
    after, _ = other.teachers(batch)
    odds = (after / (1 - after)).log() - (before / (1 - before)).log()
    confident = (before[..., low] > 1e-3) & (before[..., low] < 1 - 1e-3)
    assert confident.any()
    assert odds[..., low][confident] == pytest.approx(-2, abs=0.01)


@pytest.mark.parametrize("whose", ["teacher", "student"])
def test_how_likely_unknown_speech_is_in_recognition_is_not_taught(tones, tmp_path, whose):
    trainer = make_trainer(student_recipe(tones))
    batch = trainer.batches.draw(4)
    batch = Batch(batch.features, {}, batch.targets, batch.words, batch.rows)
    models = {name: unknown_student("ab", "cd") for name in ("teacher", "student")}
    even, _ = Teachers([str(saved(models["teacher"], tmp_path))], models["student"])(batch)
    shares = models[whose].log_prior.exp() / len(models[whose].labels)
    models[whose].set_prior(shares, unknown_odds=4.0)
    if whose == "teacher":
        recipe = parse_recipe({"sampling": {"unknown_odds": 4.0}}, "recipe")
        models[whose].metadata["provenance"] = {"recipe": recipe.model_dump(mode="json")}
    odds = 4.0 if whose == "student" else 1.0
    other = str(saved(models["teacher"], tmp_path, "other"))
    answers, _ = Teachers([other], models["student"], odds)(batch)
    torch.testing.assert_close(answers, even)


def with_unknown_words(tones: Path, folder: Path, *words: str) -> tuple[Path, Path]:
    """The tones with `high` as `_unknown_`; and a model that tells apart these unknown words."""
    manifest = write_tones(folder)
    labels = ("low", "mid", "_unknown_")
    torch.manual_seed(2)
    base = untrained_model()
    model = SpeechGRU(base.config, base.features.config, labels, words)
    return manifest, saved(model, folder)


def unknown_student(*unknown_words: str) -> SpeechGRU:
    base = untrained_model(seed=4)
    return SpeechGRU(
        base.config, base.features.config, ("low", "mid", "_unknown_"), unknown_words
    ).eval()


@pytest.mark.parametrize(
    ("teachers_words", "by_class"),
    [(("ab", "cd"), True), (("cd", "ef", "ab"), True), (("ab",), False), ((), False)],
)
def test_unknown_words_are_taught_if_the_teachers_tell_them_apart(
    tones, tmp_path, teachers_words, by_class
):
    student = unknown_student("ab", "cd")
    teacher = unknown_student(*teachers_words)
    teachers = Teachers([str(saved(teacher, tmp_path))], student)
    assert teachers.by_class == by_class
    trainer = make_trainer(student_recipe(tones))
    batch = trainer.batches.draw(4)
    answers, _ = teachers(Batch(batch.features, {}, batch.targets, batch.words, batch.rows))
    encoded, _ = teacher.encode(batch.features, teacher.initial_state(4))
    posteriors = teacher.apply_heads(encoded).exp()
    torch.testing.assert_close(answers[..., :2], posteriors[..., :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(answers.sum(dim=-1), torch.ones(answers.shape[:2]))
    if by_class:
        column = 3 + teachers_words.index("cd")
        torch.testing.assert_close(answers[..., 4], posteriors[..., column], atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(
            answers[..., 2], posteriors[..., 2:].sum(dim=-1), atol=1e-5, rtol=1e-5
        )


def test_a_bidirectional_teacher_answers_each_clip_at_the_steps_of_its_word(
    tones, teacher, tmp_path
):
    path = changed(teacher, tmp_path, model={"bidirectional": True})
    trainer = make_trainer(student_recipe(tones, path, stream={"clips": 2, "carry_share": 1.0}))
    batches, model = trainer.batches, load_model(path)
    batch = batches.draw(16)
    answers, state = trainer.teachers(batch)
    assert state == {}
    clips, starts = batch.rows.target_clips, batch.rows.clip_starts
    row, step = (clips == 1).nonzero()[0].tolist()
    assert batch.targets[row, step] == batch.words[row, 1]
    frames = 2 * batches.clips.clip_samples // model.step_samples
    first = int(starts[row, 1].clamp_min(0)) // model.features.config.hop_samples
    first = min(first, batch.features.shape[1] - frames)
    heard = batch.features * trainer.model.deviation + trainer.model.mean
    heard = heard[row : row + 1, first : first + frames]
    encoded, _ = model.encode(heard, model.initial_state(1))
    tail = model.apply_heads(encoded)[0, -10:].mean(dim=0)
    expected = torch.softmax(tail + trainer.model.log_prior - model.log_prior, dim=-1)
    torch.testing.assert_close(answers[row, step], expected, atol=1e-4, rtol=0)
    # Elsewhere the target is the answer, if there is one.
    carried = (clips < 0) & (batch.targets >= 0)
    assert torch.equal(answers[carried].argmax(dim=-1), batch.targets[carried])
    assert not answers[(clips < 0) & (batch.targets < 0)].any()


def test_teachers_with_other_features_or_steps_are_resampled(tones, teacher, tmp_path):
    path = changed(teacher, tmp_path, features={"hop_ms": 20.0, "mels": 24})
    trainer = make_trainer(
        student_recipe(tones, path, stream={"clips": 2, "seconds_per_clip": 1.2})
    )
    batch = trainer.batches.draw(16)
    answers, _ = trainer.teachers(batch)
    model = load_model(path)
    features, _ = model.extract(batch.rows.samples, model.initial_state(8)["samples"])
    encoded, _ = model.encode(features, model.initial_state(8))
    log_posteriors = model.apply_heads(encoded) + trainer.model.log_prior - model.log_prior
    expected = torch.softmax(log_posteriors, dim=-1)
    torch.testing.assert_close(answers[:, 1], expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(answers[:, 8], expected[:, 3], atol=1e-5, rtol=1e-5)


def test_the_state_of_a_teacher_is_carried_like_the_students(tones, teacher):
    """With the student as its own teacher, both are in the same state after every batch."""
    recipe = student_recipe(tones, teacher, stream={"clips": 2, "carry_share": 0.5})
    trainer = make_trainer(recipe)
    trainer.model.load_state_dict(load_model(teacher).state_dict())
    trainer.model.eval()
    batches = trainer.batches
    for _ in range(4):
        batch = batches.featurize(batches.draw_rows(16))
        batches.carry(trainer.loss(batch)[1])
        for name in ("layer0", "layer1"):
            own, teachers = batches.carried[name], batches.carried[f"teacher0.{name}"]
            torch.testing.assert_close(own, teachers, atol=1e-5, rtol=0)
            assert own.abs().max() > 0.1


def test_distillation_loss_by_hand():
    student = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    answers = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    expected = 0.5 * torch.tensor(0.5 / 0.7).log() + 0.5 * torch.tensor(0.5 / 0.2).log()
    assert distillation_loss(student.log(), answers, 1.0) == pytest.approx(expected.item())
    same = student[:1]
    assert distillation_loss(same.log(), same, 3.0).item() == pytest.approx(0, abs=1e-6)
    # At a high temperature the gradient is that of the squared difference of the logits.
    logits = student[:1].log().requires_grad_()
    target = torch.tensor([[0.3, 0.3, 0.4]])
    distillation_loss(logits, target, 1000.0).backward()
    centred = (logits - target.log()).detach()
    centred = (centred - centred.mean()) / 3
    torch.testing.assert_close(logits.grad, centred, atol=2e-3, rtol=0)


# Whole runs.


def test_a_student_learns_faster_with_a_teacher(tones, teacher, tmp_path):
    """By the loss on validation clips after the same few steps."""
    few = {"epochs": 12.0, "validations": 1}
    losses = {}
    for name, teachers in (("alone", ()), ("taught", (teacher,))):
        recipe = student_recipe(tones, *teachers, training=few)
        loop.train(recipe, tmp_path / name, CPU)
        losses[name] = metrics(tmp_path / name)[-1]["loss"]
    assert losses["taught"] <= losses["alone"]


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param({}, id="clips"),
        pytest.param({"clips": 2, "begin_at": 0.3}, id="streams", marks=pytest.mark.slow),
    ],
)
def test_resumed_run_is_exact(tones, teacher, tmp_path, stream):
    both = changed(teacher, tmp_path, model={"bidirectional": True})
    recipe = student_recipe(tones, teacher, both, stream=stream, training={"temperature": 2.0})
    loop.train(recipe, tmp_path / "whole", CPU)
    run, left = tmp_path / "run", iter(range(17))
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, run, CPU, stop=lambda: run.exists() and next(left, None) is None)
    loop.train(RunDirectory(run).read_recipe(), run, CPU, resume=True)
    assert_same_run(run, tmp_path / "whole")
    origin = load_model(run / "model.safetensors").metadata["provenance"]
    assert origin["recipe"]["training"]["teachers"] == ["model.safetensors", "changed.safetensors"]
    first, second = origin["teachers"]
    assert first["data"] == load_model(teacher).metadata["provenance"]["data"]
    assert len(first["sha256"]) == 64
    assert first["sha256"] != second["sha256"]


def test_a_changed_teacher_prevents_resuming(tones, teacher, tmp_path):
    path, run = tmp_path / "own.safetensors", tmp_path / "run"
    shutil.copy(teacher, path)
    recipe = student_recipe(tones, path)
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, run, CPU, stop=run.exists)
    shutil.copy(changed(teacher, tmp_path), path)
    with pytest.raises(DataError, match=r"training\.teachers have changed since this run began"):
        loop.train(recipe, run, CPU, resume=True)
    path.unlink()
    with pytest.raises(DataError, match=r"own\.safetensors: no such file"):
        loop.train(recipe, run, CPU, resume=True)


def test_bf16_changes_the_answers_little(tones, teacher):
    """With weights that hardly move, as networks that learn part anyway."""
    losses = []
    for precision in ("float32", "bf16"):
        training = {"precision": precision, "learning_rate": 1e-6}
        recipe = student_recipe(tones, teacher, stream={"clips": 2}, training=training)
        trainer = make_trainer(recipe)
        torch.manual_seed(0)  # both draw the same
        losses.append([trainer.train_step().item() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], abs=0.005)
    assert trainer.batches.carried["teacher0.layer0"].dtype == torch.float32


# Models that cannot teach.


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"labels": ("_silence_", "_unknown_", "low", "mid", "high", "deep")},
            r"it has 'deep', and the recipe does not",
        ),
        ({"labels": ("low", "mid")}, r"the recipe has '_silence_', and it does not"),
        ({"model": {"heads": ("ctc",)}}, "has no classify head"),
        ({"features": {"sample_rate": 8_000, "high_hz": 3_800.0}}, "expects 8000 Hz audio"),
        ({"features": {"hop_ms": 17.0}}, "its steps of 34 ms do not fill the recipe's rows of"),
    ],
)
def test_models_that_cannot_teach_are_reported(tones, teacher, tmp_path, sections, message):
    path = changed(teacher, tmp_path, **sections)
    with pytest.raises(UsageError, match=rf"training.teachers .*changed.safetensors: .*{message}"):
        make_trainer(student_recipe(tones, path, stream={"clips": 2}))


def test_missing_teachers_are_reported_before_decoding(tones, tmp_path, capsys):
    (tmp_path / "r.toml").write_text(student_recipe(tones, tmp_path / "no.safetensors").to_toml())
    arguments = ["train", str(tmp_path / "r.toml"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 4
    assert "no.safetensors: no such file" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UsageError, match="teachers needs a classify head"):
        student_recipe(tones, tmp_path / "no.safetensors", model={"heads": ["ctc"]})


def test_a_teacher_does_not_learn(tones, teacher):
    trainer = make_trainer(student_recipe(tones, teacher))
    (model,) = (part.model for part in trainer.teachers.teachers.values())
    before = copy.deepcopy(model.state_dict())
    trainer.train_step()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
