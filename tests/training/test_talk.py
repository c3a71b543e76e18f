"""Rows of running speech: their targets, and what follows them."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from runs import CPU, make_trainer, quick_recipe
from tones import RATE

from speechgru.analysis.training_cost import synthetic_data
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Clip
from speechgru.corpora.packed import pack
from speechgru.errors import UsageError
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.training.batches import NO_TARGET, NO_WORD, ClipBatches
from speechgru.training.data import label_ids, prepare
from speechgru.training.recipe import parse_recipe
from speechgru.training.stream_batches import StreamBatches
from speechgru.training.talk import SILENT, SPEECH, pieces_of, talk_bank
from speechgru.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_streams")

STEP = 320


def make_batches(tones, **stream) -> StreamBatches:
    table = quick_recipe(tones).model_dump()
    table["data"]["other_sounds"] = True
    table["stream"] = {"clips": 2, "talk_share": 0.5, "talk_s": 8.0} | stream
    recipe = parse_recipe(table, "talk")
    batches = Trainer(recipe, prepare(recipe), CPU).batches
    assert isinstance(batches, StreamBatches)
    return batches


@pytest.fixture(scope="module")
def batches(tones) -> StreamBatches:
    return make_batches(tones)


def test_talk_bank_marks_speech_and_silence(tmp_path):
    rng = np.random.default_rng(0)
    sound = np.concatenate([rng.normal(0, 0.1, RATE), np.zeros(2 * RATE), rng.normal(0, 0.1, RATE)])
    soundfile.write(tmp_path / "talk.wav", sound, RATE)
    bank, activity = talk_bank([tmp_path / "talk.wav"], RATE, STEP)
    assert len(bank) == STEP * len(activity)
    assert (activity[:50] == SPEECH).all()
    assert (activity[90:145] == SILENT).all()
    assert (activity[155:195] == SPEECH).all()


def test_own_talk_is_that_of_the_chosen_channel(tmp_path, tones):
    """The mean of channels in opposite phase would be silence."""
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    corpus = open_corpus(tones)
    talk = tmp_path / "talk.wav"
    soundfile.write(talk, np.stack([noise, -noise], axis=1), RATE)
    clip = Clip(talk, "_unknown_", "", "training")
    packed = pack(replace(corpus, clips=(clip,)), RATE, channel=2)
    bank, _ = talk_bank([talk], RATE, STEP, packed=packed)
    one = bank[: 4 * RATE].astype(float)
    assert np.corrcoef(one, noise)[0, 1] == pytest.approx(-1, abs=1e-3)


def test_a_large_share_of_talk_is_reached(tones):
    batches = make_batches(tones, talk_share=0.8, talk_s=15.0)
    steps = 100_000
    shares = []
    for _ in range(400):
        batches.choose_talk(steps)
        shares.append((batches.carried["talk"] >= 0).float().mean().item())
    assert np.mean(shares[20:]) == pytest.approx(0.8, abs=0.05)


def test_talk_is_there_at_each_speed(tmp_path):
    time = np.arange(2 * RATE) / RATE
    soundfile.write(tmp_path / "talk.wav", 0.1 * np.sin(2 * np.pi * 500 * time), RATE)
    once, _ = talk_bank([tmp_path / "talk.wav"], RATE, STEP)
    bank, activity = talk_bank([tmp_path / "talk.wav"], RATE, STEP, (1.0, 0.8, 1.25))
    assert len(bank) == STEP * len(activity)
    np.testing.assert_array_equal(bank[: 2 * RATE], once[: 2 * RATE])
    gap = RATE // 4
    starts = np.array([0, 2 * RATE + gap, 4.5 * RATE + 2 * gap], int)
    for start, hertz in zip(starts, (500, 400, 625), strict=True):
        spectrum = np.abs(np.fft.rfft(bank[start + 1000 : start + 1000 + RATE]))
        assert spectrum.argmax() == pytest.approx(hertz, abs=1)


def test_label_shares_include_running_speech(tones):
    """Without its targets `_unknown_` would count as rare, and be raised above the words."""
    batches = make_batches(tones, talk_share=0.25, talk_s=2.0)
    model, unknown = batches.clips.model, batches.clips.model.vocabulary.id(UNKNOWN)
    shares = batches.label_shares()
    assert shares.sum().item() == pytest.approx(1.0, abs=1e-5)
    rows = [batches.draw_rows(16) for _ in range(120)]
    targets = torch.cat([part.targets[part.targets != NO_TARGET] for part in rows])
    counted = (label_ids(targets, model) == unknown).float().mean().item()
    assert counted > 0.1
    assert shares[unknown].item() == pytest.approx(counted, abs=0.03)


def test_targets_in_talk_are_unknown_or_silence(batches):
    model = batches.clips.model
    unknown_targets = 0
    for _ in range(8):
        rows = batches.draw_rows(16)
        talk = batches.carried["talk"] >= 0
        targets = set(rows.targets[talk].unique().tolist())
        assert targets <= {NO_TARGET, model.vocabulary.id(UNKNOWN), model.vocabulary.id(SILENCE)}
        assert (rows.words[talk] == NO_WORD).all()
        unknown_targets += int((rows.targets[talk] == model.vocabulary.id(UNKNOWN)).sum())
    assert unknown_targets > 100


def test_share_of_talk_rows(tones):
    batches = make_batches(tones, talk_share=0.3)
    shares = []
    for _ in range(300):
        batches.choose_rows()
        shares.append((batches.carried["talk"] >= 0).float().mean().item())
    assert np.mean(shares[20:]) == pytest.approx(0.3, abs=0.06)


def test_talk_continues_in_the_next_batch_with_its_state(batches):
    marks = {name: torch.ones_like(t) for name, t in batches.carried.items() if name == "layer0"}
    for _ in range(20):
        before = batches.carried["talk"].clone()
        batches.carried |= {name: mark.clone() for name, mark in marks.items()}
        batches.choose_rows()
        was_talk = before >= 0
        # The words after it, too, begin in the state that it left behind.
        assert (batches.carried["layer0"].flatten(1).amin(dim=1)[was_talk] == 1).all()
        goes_on = was_talk & (batches.carried["talk"] >= 0)
        moved = batches.carried["talk"][goes_on] - before[goes_on]
        wrapped = before[goes_on] + 2 * batches.steps > len(batches.clips.talk[1])
        assert (moved[~wrapped] == batches.steps).all()


def test_pieces_are_speech_with_silence_around_them():
    talk = torch.arange(20 * RATE, dtype=torch.float32).remainder(1_000).to(torch.int16) + 1_000
    starts = torch.tensor([RATE + 100, 10 * RATE + 300])
    numbers = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    clips, spans = pieces_of(talk, starts, numbers, RATE, RATE)
    lengths = spans[:, 1] - spans[:, 0]
    assert clips.shape == (40, RATE)
    assert (spans.min().item() >= 0, spans.max().item() <= RATE) == (True, True)
    assert 0.25 * RATE <= lengths.min() < 0.35 * RATE < 0.7 * RATE < lengths.max() <= 0.8 * RATE
    for clip, (first, last) in zip(clips, spans.tolist(), strict=True):
        assert not clip[:first].any()
        assert not clip[last:].any()
        inner = clip[first + 400 : last - 400] * 32_768  # without the edges
        assert set(inner.diff().round().tolist()) <= {1.0, -999.0}
        assert round(inner[0].item()) in (1_500, 1_700)  # each begins where it may


def test_share_of_clips_becomes_pieces_of_speech(tones):
    batches = make_batches(tones, talk_share=0.01)
    clips, unknown = batches.clips, batches.clips.model.vocabulary.id(UNKNOWN)
    before = batches.label_shares()[unknown]
    sampling = clips.recipe.sampling.model_copy(update={"cut_speech_share": 0.25})
    clips.recipe = clips.recipe.model_copy(update={"sampling": sampling})
    drawn = clips.draw(32)
    assert (drawn.classes[-8:] == unknown).all()
    assert all(clip.any() for clip in drawn.samples[-8:])
    # Three quarters are as before, and a quarter is unknown.
    after = batches.label_shares()[unknown]
    assert after.item() == pytest.approx(0.75 * before.item() + 0.25, abs=0.04)
    assert ClipBatches(clips, 200).label_shares().sum().item() == pytest.approx(1.0)


def test_recipe_with_talk_needs_running_speech(tones):
    recipe = quick_recipe(tones).model_dump()
    recipe["stream"] = {"clips": 2, "talk_share": 0.5}
    recipe = parse_recipe(recipe, "no talk")
    with pytest.raises(UsageError, match=r"data\.other_sounds = true"):
        Trainer(recipe, prepare(recipe), CPU)


def test_without_running_speech_there_are_no_pieces_of_it(tones):
    recipe = quick_recipe(tones).model_dump()
    recipe["sampling"]["cut_speech_share"] = 0.5
    trainer = make_trainer(parse_recipe(recipe, "no talk"))
    assert trainer.batches.clips.cut_count(64) == 0
    assert trainer.train_step().isfinite()


def test_models_trained_on_streams_carry_their_state(tones, batches):
    """After a reset in silence other words said alone are easily taken for its words."""
    assert batches.clips.model.metadata["state_policy"]["mode"] == "carry"
    recipe = quick_recipe(tones)
    assert "state_policy" not in Trainer(recipe, prepare(recipe), CPU).model.metadata


def test_talk_needs_a_label():
    recipe = parse_recipe(
        {"data": {"protocol": "v2-35"}, "stream": {"clips": 2, "talk_share": 0.5}}, "all words"
    )
    with pytest.raises(UsageError, match="not among the labels"):
        Trainer(recipe, synthetic_data(recipe, 100), CPU)


def test_talk_needs_a_classify_head(tones):
    table = quick_recipe(tones).model_dump()
    table["model"]["heads"] = ["ctc"]
    table["stream"] = {"clips": 2, "talk_share": 0.5}
    with pytest.raises(UsageError, match="classify head"):
        parse_recipe(table, "ctc")
