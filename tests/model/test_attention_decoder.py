"""The decoder with attention: its equations, that it learns to spell, and its word errors."""

import json

import pytest
import torch
from pydantic import ValidationError
from runs import CPU, QUICK
from tones import write_tones
from torch import nn

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.evaluation.sequences import decode_attention, words_of_tokens
from speechgru.labels import SILENCE, UNKNOWN, Spelling
from speechgru.model.attention_decoder import END, AttentionDecoder
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import load_model, save_model
from speechgru.training.data import prepare
from speechgru.training.losses import BatchLoss
from speechgru.training.recipe import TrainingConfig, parse_recipe
from speechgru.training.rows import NO_WORD, Batch
from speechgru.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("seeded")

NEAR = {"atol": 1e-5, "rtol": 1e-5}
LABELS = (SILENCE, UNKNOWN, "low", "mid", "high")


@torch.no_grad()
def test_a_token_follows_the_equations():
    speller = AttentionDecoder(6, 5)
    heard = torch.randn(2, 9, 6)
    heard_too, keys, s, c, before = speller.start(heard)
    s, c = torch.randn(2, 6), torch.randn(2, 6)
    before = torch.rand(2, 9).softmax(dim=1)
    answer, (_, _, s_found, c_found, weights) = speller.next(
        torch.tensor([3, 1]), (heard_too, keys, s, c, before)
    )
    s = speller.cell(torch.cat([speller.embedding.weight[[3, 1]], c], dim=1), s)
    kernel = speller.around.weight[:, 0]  # (features, 15)
    padded = nn.functional.pad(before, (7, 7))
    energies = torch.empty(2, 9)
    for t in range(9):
        f = padded[:, t : t + 15] @ kernel.T
        mixed = (
            s @ speller.query.weight.T + speller.key(heard[:, t]) + f @ speller.location.weight.T
        )
        energies[:, t] = (torch.tanh(mixed) @ speller.score.weight.T)[:, 0]
    expected = energies.softmax(dim=1)
    context = torch.einsum("bt,bth->bh", expected, heard)
    torch.testing.assert_close(weights, expected, **NEAR)
    torch.testing.assert_close(s_found, s, **NEAR)
    torch.testing.assert_close(c_found, context, **NEAR)
    logits = speller.answer(torch.cat([s, context], dim=1))
    torch.testing.assert_close(answer, logits.log_softmax(dim=1), **NEAR)


@torch.no_grad()
def test_teacher_forcing_equals_single_steps():
    speller, heard = AttentionDecoder(6, 5), torch.randn(3, 12, 6)
    tokens = torch.tensor([[2, 2, 1], [4, NO_WORD, NO_WORD], [3, 1, NO_WORD]])
    whole = speller(heard, tokens)
    assert whole.shape == (3, 4, 5)
    torch.testing.assert_close(whole.exp().sum(dim=2), torch.ones(3, 4), **NEAR)
    state = speller.start(heard)
    for place, token in enumerate(torch.cat([torch.full((3, 1), END), tokens], dim=1).unbind(1)):
        answer, state = speller.next(token.clamp_min(0), state)
        torch.testing.assert_close(answer, whole[:, place], **NEAR)


@torch.no_grad()
def test_decoding_ends_within_the_steps_of_the_utterance():
    speller, heard = AttentionDecoder(6, 5), torch.randn(1, 7, 6)
    speller.answer.bias[END] = 99.0
    assert speller.decode(heard)[0] == []
    assert speller.decode(heard)[1].shape == (0, 7)
    speller.answer.bias[END] = -99.0
    said, places = speller.decode(heard)
    assert len(said) == 7
    assert END not in said
    torch.testing.assert_close(places.sum(dim=1), torch.ones(7), **NEAR)


def utterances(count: int, generator: torch.Generator):
    """Two of three tokens, each heard for some steps; the two may be equal."""
    said = torch.randint(1, 4, (count, 2), generator=generator)
    heard = 0.1 * torch.randn(count, 12, 8, generator=generator)
    for place in range(2):
        first = 6 * place + int(torch.randint(0, 3, (), generator=generator))
        token = nn.functional.one_hot(said[:, place], 8)
        heard[torch.arange(count), first : first + 3] += 2.0 * token[:, None]
    return heard, said


@pytest.mark.slow
def test_it_learns_a_small_task():
    """Far more often than by chance, 7 of 60; and each token is heard where it is."""
    generator = torch.Generator().manual_seed(0)
    speller = AttentionDecoder(8, 4)
    optimiser = torch.optim.Adam(speller.parameters(), lr=1e-2)
    for _ in range(200):
        heard, said = utterances(16, generator)
        answer = speller(heard, said)
        targets = nn.functional.pad(said, (0, 1), value=END)
        loss = nn.functional.nll_loss(answer.flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(speller.parameters(), 1.0)
        optimiser.step()
    heard, said = utterances(60, generator)
    spelled = [speller.decode(row[None]) for row in heard]
    right = [tokens == true.tolist() for (tokens, _), true in zip(spelled, said, strict=True)]
    assert sum(right) >= 20
    # Of what is right, the second token's place lies after the first one's.
    centres = [
        places @ torch.arange(12.0) for ok, (_, places) in zip(right, spelled, strict=True) if ok
    ]
    assert sum(bool(c[1] > c[0]) for c in centres) >= 0.9 * len(centres)


def network(units="words", **options) -> SpeechGRU:
    config = ModelConfig(
        head="ctc", ctc_units=units, attention_decoder=True, hidden=8, dropout=0.0, **options
    )
    features = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
    return SpeechGRU(config, features, LABELS).eval()


def test_the_loss_covers_the_tokens_and_one_end():
    model = network()
    loss = BatchLoss(model, TrainingConfig())
    heard = torch.randn(3, 10, 8)
    words = torch.tensor([[2, 4, NO_WORD], [NO_WORD] * 3, [3, 3, 2]])
    found = loss.spelling(heard, Batch(torch.empty(0), {}, torch.empty(0), words))
    spelled = [[model.spelling.spell(LABELS[w])[0] for w in row if w >= 0] for row in words]
    expected = []
    for row, tokens in enumerate(spelled):
        answer = model.speller(heard[row : row + 1], torch.tensor([tokens], dtype=torch.long))[0]
        expected += [-answer[place, token] for place, token in enumerate([*tokens, END])]
    torch.testing.assert_close(found, torch.stack(expected).mean(), **NEAR)


def test_streams_ignore_it_and_model_files_store_it(tmp_path):
    model = network()
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    samples = 0.1 * torch.randn(1, 8_000)
    assert decode_attention(loaded, samples)[0] == decode_attention(model, samples)[0]
    plain = SpeechGRU(
        model.config.model_copy(update={"attention_decoder": False}),
        model.features.config,
        LABELS,
    ).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(plain(samples)[0], model(samples)[0])
    assert TorchBackend(model).outputs == TorchBackend(plain).outputs


def test_it_needs_a_ctc_head():
    with pytest.raises(ValidationError, match="needs a CTC head; add"):
        ModelConfig(attention_decoder=True)


def test_words_of_tokens():
    words = Spelling((*("_blank_", "_unknown_"), "on", "no"))
    assert words_of_tokens([2, 1, 3, 2], words) == ("on", "no", "on")
    letters = Spelling(("_blank_", "_unknown_", "_boundary_", "n", "o"))
    assert words_of_tokens([3, 4, 2, 2, 4, 3, 2, 1, 4], letters) == ("no", "on")


@pytest.fixture
def tones(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tones").mkdir()
    return write_tones(tmp_path / "tones")


@pytest.mark.slow
def test_training_changes_every_weight(tones):
    table = QUICK | {"data": {"directory": str(tones)}, "stream": {"clips": 2}}
    table["model"] = QUICK["model"] | {"head": "ctc", "attention_decoder": True}
    recipe = parse_recipe(table, "quick")
    trainer = Trainer(recipe, prepare(recipe), CPU)
    trainer.train_step()
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.slow
def test_its_word_errors_are_reported_with_those_of_ctc(tones, tmp_path, capsys):
    model = network(units="characters")
    model.metadata["protocol"] = "folder"
    save_model(model, tmp_path / "m.safetensors")
    typed = ["evaluate", str(tmp_path / "m.safetensors"), "--data", str(tones), "--sequences"]
    assert main([*typed, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sequences"]
    spelled = found["attention_decoder"]
    assert spelled["words"] == found["words"]
    assert spelled["word_error_rate"] > 0
    assert main(typed) == 0
    assert "with attention" in capsys.readouterr().out
