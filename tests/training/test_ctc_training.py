"""CTC in training: its loss, its validation, and a run on words that are tones."""

import numpy as np
import pytest
import torch
from runs import CPU, QUICK

from speechgru.backends.pytorch import TorchBackend
from speechgru.decoding.ctc import sequence_scores
from speechgru.labels import SILENCE, UNKNOWN, columns
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import load_model
from speechgru.recognition.clips import recognize, score_clips
from speechgru.training import loop
from speechgru.training.data import prepare
from speechgru.training.losses import (
    BatchLoss,
    ctc_losses,
    tokens_of_classes,
    tokens_of_words,
    with_blank_odds,
)
from speechgru.training.recipe import TrainingConfig, parse_recipe
from speechgru.training.rows import NO_WORD
from speechgru.training.trainer import Trainer

LABELS = (SILENCE, UNKNOWN, "on", "no")
PLAIN = {"time_masks": 0, "band_masks": 0, "noise_probability": 0.0, "colour_db": 0.0, "speed": 0.0}


def recipe(tones, *heads, units="words", **training):
    table = QUICK | {"data": {"directory": str(tones)}, "augment": PLAIN}
    table["model"] = QUICK["model"] | {
        "heads": list(heads), "ctc_units": units, "hidden": 32, "dropout": 0.0
    }  # fmt: skip
    return parse_recipe(table | {"training": QUICK["training"] | training}, "quick")


@pytest.fixture(scope="module")
def trained(tones, tmp_path_factory):
    """A run with characters as tokens; with words it would take hundreds of steps to learn."""
    spelled = recipe(tones, "ctc", units="characters", epochs=140, learning_rate=0.01)
    return loop.train(spelled, tmp_path_factory.mktemp("runs") / "first", CPU)


def network(*heads, units="words", unknown_words=()):
    torch.manual_seed(0)
    config = ModelConfig(heads=heads, ctc_units=units, hidden=8, dropout=0.0)
    return SpeechGRU(config, FeatureConfig(), LABELS, unknown_words).eval()


def log_posteriors(*shape, seed=0):
    scores = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return scores.log_softmax(dim=-1)


# Words as tokens.


def test_tokens_of_words():
    outputs = network("ctc", units="characters")
    unknown, end, n, o = range(1, 5)
    assert outputs.spelling.tokens == ("_blank_", UNKNOWN, "_boundary_", "n", "o")
    words = torch.tensor([[2, 1, 3], [0, 3, NO_WORD], [NO_WORD, NO_WORD, NO_WORD]])
    spelled = tokens_of_words(words, tokens_of_classes(outputs)).tolist()
    assert [[token for token in row if token != NO_WORD] for row in spelled] == [
        [o, n, end, unknown, n, o, end],
        [n, o, end],
        [],
    ]
    assert all(NO_WORD not in row[: len([t for t in row if t != NO_WORD])] for row in spelled)


def test_unknown_words_share_one_token():
    model = network("classify", "ctc", unknown_words=("bed", "cat"))
    tokens = tokens_of_classes(model)
    assert [[t for t in row if t != NO_WORD] for row in tokens.tolist()] == [
        [], [1], [2], [3], [1], [1]
    ]  # fmt: skip


# The loss.


def test_ctc_loss_sums_over_all_paths():
    batch = log_posteriors(3, 6, 4)
    spelled = [(1, 2), (), (3, 3, 1)]
    tokens = torch.full((3, 5), NO_WORD)
    for row, sequence in zip(tokens, spelled, strict=True):
        row[: len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    expected = [-sequence_scores(batch[i : i + 1].numpy(), [spelled[i]])[0, 0] for i in range(3)]
    np.testing.assert_allclose(ctc_losses(batch, tokens), expected, rtol=1e-5)


def test_tokens_that_do_not_fit_have_no_loss():
    batch = log_posteriors(2, 2, 4).requires_grad_()
    losses = ctc_losses(batch, torch.tensor([[1, 2, 3], [1, NO_WORD, NO_WORD]]))
    assert losses[0] == 0
    losses.sum().backward()
    assert batch.grad[0].abs().sum() == 0
    assert batch.grad[1].abs().sum() > 0


def test_ctc_loss_of_a_batch_is_the_mean_over_tokens(tones):
    trainer = Trainer(recipe(tones, "ctc"), prepare(recipe(tones, "ctc")), CPU)
    batch = trainer.batches.draw(32)
    trainer.model.eval()
    outputs = trainer.model.apply_heads(trainer.model.encode(batch.features, batch.state)[0])
    total, count = 0.0, 0
    for row, (word,) in zip(outputs.detach().numpy(), batch.words.tolist(), strict=True):
        spelled = (
            () if word == NO_WORD else trainer.model.spelling.spell(trainer.model.labels[word])
        )
        total -= sequence_scores(row[None], [spelled])[0, 0]
        count += len(spelled)
    assert 0 < count < 32  # silence says nothing
    assert trainer.loss(batch)[0].item() == pytest.approx(total / count, rel=1e-4)


def test_ctc_smoothing(tones):
    plain, smoothed = recipe(tones, "ctc"), recipe(tones, "ctc", ctc_smoothing=0.2)
    trainer = Trainer(smoothed, prepare(smoothed), CPU)
    batch = trainer.batches.draw(8)
    trainer.model.eval()
    encoded, _ = trainer.model.encode(batch.features, batch.state)
    outputs = trainer.model.apply_heads(encoded).detach()
    plain_loss = BatchLoss(trainer.model, plain.training)(outputs, batch).item()
    spelled = sum(word != NO_WORD for (word,) in batch.words.tolist())
    uniform = -outputs.mean(dim=2).sum().item() / spelled
    loss = BatchLoss(trainer.model, smoothed.training)(outputs, batch).item()
    assert loss == pytest.approx(0.8 * plain_loss + 0.2 * uniform)


def test_blank_odds():
    posteriors = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]).log()
    found = with_blank_odds(posteriors, 4.0).exp()
    assert found.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    before, after = (p[:, 0] / (1 - p[:, 0]) for p in (posteriors.exp(), found))
    assert (after / before).tolist() == pytest.approx([4.0, 4.0])
    assert (found[:, 1] / found[:, 2]).tolist() == pytest.approx([1.5, 8.0])


def test_lower_blank_odds_give_less_blank(tones):
    """The network itself, not only its loss, gives less blank."""
    blanks = []
    for odds in (1.0, 0.1):
        settings = recipe(tones, "ctc", ctc_blank_odds=odds)
        trainer = Trainer(settings, prepare(settings), CPU)
        for _ in range(60):
            trainer.train_step()
        trainer.model.eval()
        batch = trainer.batches.draw(32)
        encoded, _ = trainer.model.encode(batch.features, batch.state)
        blanks.append(trainer.model.apply_heads(encoded)[..., 0].exp().mean().item())
    assert blanks[1] < blanks[0]


def test_weighted_loss_of_two_heads(tones):
    both = recipe(tones, "classify", "ctc", ctc_weight=0.25)
    trainer = Trainer(both, prepare(both), CPU)
    batch = trainer.batches.draw(8)
    trainer.model.eval()
    outputs = trainer.model.apply_heads(trainer.model.encode(batch.features, batch.state)[0])
    labels = trainer.model.labels
    alone = []
    for head, part in trainer.model.split_heads(outputs).items():
        model = SpeechGRU(ModelConfig(heads=(head,)), FeatureConfig(), labels)
        alone.append(BatchLoss(model, TrainingConfig())(part, batch).item())
    assert trainer.loss(batch)[0].item() == pytest.approx(0.75 * alone[0] + 0.25 * alone[1])


# A run.


def test_ctc_model_recognizes_new_speakers(trained, tones):
    assert trained.metrics["validation"]["balanced_accuracy"] > 0.8
    model = load_model(trained.model)
    assert model.spelling.in_characters
    task = prepare(recipe(tones, "ctc")).task
    backend = TorchBackend(model)
    answers = [(recognize(backend, e.path).word, e.label) for e in task.split("testing")]
    assert sum(word == label for word, label in answers) >= 0.8 * len(answers) > 10


def test_two_heads_learn(tones):
    both = recipe(tones, "ctc", "classify")
    trainer = Trainer(both, prepare(both), CPU)
    batch = trainer.batches.draw(64)
    before = trainer.loss(batch)[0].item()
    for _ in range(25):
        trainer.train_step()
    assert trainer.loss(batch)[0].item() < 0.6 * before


# Clips.


@pytest.mark.parametrize("units", ["words", "characters"])
def test_clip_scores_of_a_ctc_head(units):
    model = network("ctc", units=units)
    clips = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0)).numpy()
    scores = score_clips(TorchBackend(model), clips)
    assert scores.shape == (3, len(LABELS))
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    outputs = model(torch.from_numpy(clips))[0].detach().numpy()
    raw = sequence_scores(outputs, [model.spelling.spell(label) for label in LABELS])
    np.testing.assert_allclose(np.diff(scores), np.diff(raw), atol=1e-3)


def test_first_of_two_heads_scores_clips():
    one, other = network("classify", "ctc"), network("ctc", "classify")
    weights = one.state_dict()
    for name in ("head.weight", "head.bias"):
        weights[name] = torch.cat([weights[name][4:], weights[name][:4]])
    other.load_state_dict(weights)
    clips = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0)).numpy()
    of_labels = one(torch.from_numpy(clips))[0][..., columns(one.outputs, "classify")]
    mean = of_labels[:, -10:].mean(dim=1).log_softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(score_clips(TorchBackend(one), clips), mean, atol=1e-5)
    assert not np.allclose(score_clips(TorchBackend(other), clips), mean, atol=1e-2)
