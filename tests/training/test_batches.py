"""Batches of single clips: their targets, scrambled words and random numbers."""

import pytest
import torch
from runs import make_trainer, quick_recipe

from speechgru.labels import UNKNOWN
from speechgru.training.recipe import parse_recipe
from speechgru.training.rows import NO_TARGET, NO_WORD


def test_targets_are_at_the_clips_end(trainer):
    batch = trainer.batches.draw(32)
    assert batch.features.shape == (32, 50, 20)
    assert batch.targets.shape == (32, 25)
    assert (batch.targets[:, :15] == NO_TARGET).all()  # 200 ms are ten steps
    words = batch.targets[:, 15:]
    assert (words == words[:, :1]).all()
    assert set(words.unique().tolist()) == set(range(5))  # silence, made words, three tones
    assert not any(part.any() for part in batch.state.values())
    assert torch.equal(batch.words, words[:, :1].masked_fill(words[:, :1] == 0, NO_WORD))


def test_batches_depend_only_on_the_generators(trainer):
    with trainer.batches.clips.rewound():
        first, second = trainer.batches.draw(8), trainer.batches.draw(8)
    torch.manual_seed(99)
    again = trainer.batches.draw(8)
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.targets, first.targets)
    assert not torch.equal(second.features, first.features)


def test_drawing_does_not_modify_the_stored_clips(trainer):
    before = trainer.batches.clips.store.clips.clone()
    trainer.batches.draw(64)
    assert torch.equal(trainer.batches.clips.store.clips, before)


@pytest.mark.usefixtures("few_sounds")
def test_silence_may_be_sounds_as_loud_as_words(tones):
    table = quick_recipe(tones).model_dump(mode="json")
    table["data"]["other_sounds"] = True
    table["sampling"]["loud_sound_share"] = 1.0
    clips = make_trainer(parse_recipe(table, "recipe")).batches.clips
    samples, is_silence = torch.zeros(200, clips.clip_samples), torch.arange(200) % 2 == 0
    clips.fill_silence(samples, is_silence)
    assert not samples[~is_silence].any()
    level_db = 20 * samples[is_silence].square().mean(dim=1).sqrt().log10()
    assert -30 < level_db.median() < -15
    assert level_db.quantile(0.9) > -15


def test_scrambled_words_become_unknown(trainer, monkeypatch):
    """A share of a batch is scrambled: halves swapped, or reversed."""
    clips = trainer.batches.clips
    monkeypatch.setattr(clips.model, "vocabulary", type(clips.model.vocabulary)(("a", UNKNOWN)))
    sampling = clips.recipe.sampling.model_copy(update={"made_unknown_share": 0.5})
    monkeypatch.setattr(clips, "recipe", clips.recipe.model_copy(update={"sampling": sampling}))
    samples, classes = torch.randn(8, 400), torch.zeros(8, dtype=torch.long)
    scrambled, spans = samples.clone(), torch.tensor([[100, 150]] * 8)
    clips.scramble(scrambled, classes, spans, torch.tensor([True, True, True, False] * 2))
    assert classes.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert torch.equal(scrambled[2], samples[2].flip(0))
    assert torch.equal(scrambled[3:], samples[3:])
    assert sorted(scrambled[0].tolist()) == sorted(samples[0].tolist())
    assert not torch.equal(scrambled[0], samples[0])
    assert spans.tolist() == [[100, 150]] * 2 + [[250, 300]] + [[100, 150]] * 5


def test_label_shares_match_the_draws(trainer):
    """Counted over many batches: silence, scrambled words, and the tones."""
    shares = trainer.batches.label_shares()
    assert shares.sum().item() == pytest.approx(1.0)
    size = trainer.recipe.training.batch_size
    targets = torch.cat([trainer.batches.draw_rows(size).targets[:, -1] for _ in range(400)])
    counted = torch.bincount(targets, minlength=5) / len(targets)
    torch.testing.assert_close(shares.float(), counted, atol=0.02, rtol=0)


def test_rooms_and_narrow_microphones_change_the_rows_they_are_for(trainer, monkeypatch):
    clips = trainer.batches.clips
    rooms = torch.zeros(1, 300)
    rooms[0, [0, 200]] = torch.tensor([1.0, 0.8])

    def heard(**augment):
        changed = clips.recipe.augment.model_copy(update={"noise_probability": 0.0} | augment)
        recipe = clips.recipe.model_copy(update={"augment": changed})
        monkeypatch.setattr(clips, "recipe", recipe)
        monkeypatch.setattr(clips, "rooms", rooms if "room_probability" in augment else None)
        with clips.rewound():
            return clips.augment_samples(torch.full((40, 800), 0.1).cumsum(1).sin())

    plain = heard(gain_db=0.0)
    for change in ("room_probability", "narrow_probability"):
        assert torch.equal(heard(**{"gain_db": 0.0, change: 0.0}), plain)
        different = (heard(**{"gain_db": 0.0, change: 0.4}) != plain).any(dim=1)
        assert 5 < different.sum() < 30
