"""Heads on one encoder: what their columns are, and that each is a distribution of its own."""

import pytest
import torch
from pydantic import ValidationError

from speechgru.backends.pytorch import TorchBackend
from speechgru.errors import DataError
from speechgru.labels import BLANK, BOUNDARY, SILENCE, UNKNOWN, Spelling, columns
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import load_model, read_header, save_model

LABELS = (SILENCE, UNKNOWN, "on", "no")
WORDS = (BLANK, UNKNOWN, "on", "no")
CHARACTERS = (BLANK, UNKNOWN, BOUNDARY, "n", "o")


def make(*heads, units="words", unknown_words=()):
    torch.manual_seed(0)
    config = ModelConfig(heads=heads, ctc_units=units, hidden=8, dropout=0.0)
    return SpeechGRU(config, FeatureConfig(), LABELS, unknown_words).eval()


def samples(seed=0):
    return 0.1 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (make("classify"), {"classify": LABELS}),
        (make("ctc"), {"ctc": WORDS}),
        (make("ctc", units="characters"), {"ctc": CHARACTERS}),
        (make("classify", "ctc"), {"classify": LABELS, "ctc": WORDS}),
        (
            make("ctc", "classify", unknown_words=("bed", "cat"), units="characters"),
            {"ctc": CHARACTERS, "classify": LABELS},
        ),
    ],
)
def test_the_posteriors_of_each_head_sum_to_one(model, outputs, tmp_path):
    assert model.outputs == TorchBackend(model).outputs == outputs
    assert list(model.outputs) == list(outputs)
    log_posteriors, _ = model(samples())
    assert log_posteriors.shape == (2, 25, sum(map(len, outputs.values())))
    assert model(samples()[:, :100])[0].shape[1:] == (0, log_posteriors.shape[2])
    for head, labels in outputs.items():
        part = log_posteriors[..., columns(outputs, head)]
        assert part.shape[-1] == len(labels)
        torch.testing.assert_close(part.exp().sum(-1), torch.ones(2, 25))
    save_model(model, tmp_path / "model.safetensors")
    header = read_header(tmp_path / "model.safetensors")
    assert header["outputs"] == {head: list(labels) for head, labels in outputs.items()}
    again = load_model(tmp_path / "model.safetensors")
    assert again.outputs == outputs
    assert torch.equal(again(samples())[0], log_posteriors)


@torch.no_grad()
def test_two_heads_equal_each_one_alone():
    """The rows of the last layer are the one's and the other's."""
    both = make("classify", "ctc", unknown_words=("bed", "cat"))
    both.set_prior(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    whole, _ = both(samples())
    for head, rows in (("classify", slice(0, 6)), ("ctc", slice(6, 10))):
        alone = make(head, unknown_words=("bed", "cat") if head == "classify" else ())
        weights = both.state_dict()
        weights["head.weight"] = weights["head.weight"][rows]
        weights["head.bias"] = weights["head.bias"][rows]
        alone.load_state_dict(weights)
        torch.testing.assert_close(alone(samples())[0], whole[..., columns(both.outputs, head)])


def test_a_ctc_head_in_chunks_equals_the_whole():
    model = make("classify", "ctc")
    whole, _ = model(samples())
    state, parts = None, []
    for chunk in samples().split(960, dim=1):
        part, state = model(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=0)


def test_head_is_short_for_heads_with_one():
    assert ModelConfig.model_validate({"head": "ctc"}).heads == ("ctc",)
    assert ModelConfig.model_validate({"head": "classify", "hidden": 9}).hidden == 9
    with pytest.raises(ValidationError, match="only one of them"):
        ModelConfig.model_validate({"head": "ctc", "heads": ["ctc"]})


@pytest.mark.parametrize("heads", [[], ["ctc", "ctc"]])
def test_heads_must_differ(heads):
    with pytest.raises(ValidationError, match="at least one head, each once"):
        ModelConfig(heads=heads)


def test_unknown_words_need_a_classify_head():
    with pytest.raises(DataError, match="unknown words need a classify head"):
        make("ctc", unknown_words=("bed",))


def test_a_missing_head_is_named():
    with pytest.raises(DataError, match="no head 'ctc', only classify"):
        columns({"classify": LABELS}, "ctc")


def test_words_are_spelled_in_tokens():
    words, characters = Spelling.of(LABELS, "words"), Spelling.of(LABELS, "characters")
    assert (words.tokens, characters.tokens) == (WORDS, CHARACTERS)
    assert [words.spell(label) for label in LABELS] == [(), (1,), (2,), (3,)]
    assert [characters.spell(label) for label in LABELS] == [(), (1,), (4, 3, 2), (3, 4, 2)]
    assert characters.in_characters
    assert not words.in_characters
    with pytest.raises(DataError, match="'yes' cannot be spelled: 'y' is not a token"):
        characters.spell("yes")
    with pytest.raises(DataError, match="'yes' cannot be spelled: 'yes' is not a token"):
        words.spell("yes")
