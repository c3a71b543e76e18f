"""What is drawn for training, and what is asked of it."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from runs import CPU, make_trainer, quick_recipe
from tones import write_tones

from speechgru.corpora import Example
from speechgru.errors import DataError, UsageError
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.training import loop
from speechgru.training.batches import (
    NO_TARGET,
    NO_WORD,
)
from speechgru.training.data import class_ids, has_anagram, prepare, sampling_weights, unknown_words
from speechgru.training.recipe import Recipe, SamplingConfig

# The data.


def test_a_recipe_without_data_says_so():
    with pytest.raises(UsageError, match=r"no data: name it with --data DIR"):
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
    assert class_ids(said, model) == [2, 4, 1, 0]


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


def test_the_generators_are_all_that_a_batch_depends_on(trainer):
    with trainer.batches.clips.rewound():
        first, second = trainer.batches.draw(8), trainer.batches.draw(8)
    torch.manual_seed(99)
    again = trainer.batches.draw(8)
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.targets, first.targets)
    assert not torch.equal(second.features, first.features)


def test_drawing_leaves_the_clips_as_they_are(trainer):
    before = trainer.batches.clips.store.clips.clone()
    trainer.batches.draw(64)
    assert torch.equal(trainer.batches.clips.store.clips, before)


def test_words_that_are_turned_round_become_unknown(trainer, monkeypatch):
    """A share of a batch is played with its halves swapped, or backwards, as no word at all."""
    clips = trainer.batches.clips
    monkeypatch.setattr(clips.model, "vocabulary", type(clips.model.vocabulary)(("a", UNKNOWN)))
    sampling = clips.recipe.sampling.model_copy(update={"made_unknown_share": 0.5})
    monkeypatch.setattr(clips, "recipe", clips.recipe.model_copy(update={"sampling": sampling}))
    samples, outputs = torch.randn(8, 400), torch.zeros(8, dtype=torch.long)
    made, spans = samples.clone(), torch.tensor([[100, 150]] * 8)
    clips.scramble(made, outputs, spans, torch.tensor([True, True, True, False] * 2))
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
    targets = torch.cat([trainer.batches.draw_rows(size).targets[:, -1] for _ in range(400)])
    counted = torch.bincount(targets, minlength=5) / len(targets)
    torch.testing.assert_close(shares.float(), counted, atol=0.02, rtol=0)


def test_words_of_the_same_letters_are_found():
    labels = ("no", "on", "yes")
    assert [has_anagram(word, labels) for word in labels] == [True, True, False]
