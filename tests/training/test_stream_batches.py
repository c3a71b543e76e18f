"""Batches of streams: where words are placed, when they are targets, and how rows continue."""

from pathlib import Path

import pytest
import torch
from runs import CPU, assert_same_run, quick_recipe

from speechgru.errors import InterruptedRunError, UsageError
from speechgru.training import loop
from speechgru.training.data import prepare
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.rows import NO_TARGET, NO_WORD, Clips
from speechgru.training.stream_batches import StreamBatches
from speechgru.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_streams")

RATE, STEP = 16_000, 320
STILL = {
    **{"shift_ms": 0, "speed": 0, "gain_db": 0, "noise_probability": 0},
    **{"colour_db": 0, "time_masks": 0, "band_masks": 0},
}


def stream_recipe(tones: Path, training: dict | None = None, **stream: object) -> Recipe:
    table = quick_recipe(tones, **(training or {})).model_dump()
    table["stream"] = {"clips": 2} | stream
    return parse_recipe(table, "quick stream")


def make_batches(
    tones: Path, augment: dict | None = None, rows: int | None = None, **stream: object
) -> StreamBatches:
    recipe = stream_recipe(tones, **stream)
    if augment is not None:
        recipe = parse_recipe(recipe.model_dump() | {"augment": augment}, "quick stream")
    batches = Trainer(recipe, prepare(recipe), CPU).batches
    assert isinstance(batches, StreamBatches)
    return StreamBatches(batches.clips, recipe.stream, rows, 200.0) if rows else batches


def clips_of(classes: list[int], span_s: tuple[float, float], clip_s: float = 1.0) -> Clips:
    """Clips that are 1 within their word, and 0 elsewhere."""
    first, last = (round(s * RATE) for s in span_s)
    samples = torch.zeros(len(classes), round(clip_s * RATE))
    samples[:, first:last] = 1
    spans = torch.tensor([[first, last]] * len(classes))
    return Clips(samples, torch.tensor(classes), spans)


def at(targets: torch.Tensor, seconds: float) -> int:
    """The target of the step that ends at this time."""
    return int(targets[round(seconds * RATE / STEP) - 1])


def test_abutted_clips_and_their_targets(tones, monkeypatch):
    batches = make_batches(
        tones, rows=1, abutted_share=1.0, silence_share=1.0, seconds_per_clip=1.5
    )
    silence = 7
    monkeypatch.setattr(batches.clips, "silence", silence)
    # One row: word 1, then silence.
    clips = clips_of([1, silence], (0.2, 0.5))
    placed = batches.place_clips(clips, torch.tensor([False]))
    (row,), (target_row,) = placed.samples, placed.targets
    first = row.nonzero().min().item() / RATE - 0.2  # the start of the first clip
    assert row[round((first + 0.2) * RATE) : round((first + 0.5) * RATE)].eq(1).all()
    assert row.sum().item() == 2 * 0.3 * RATE
    config = batches.config
    first_target_s = first + 0.5 + config.after_ms / 1000
    if first > 0.02:
        assert at(target_row, first) == silence
    assert at(target_row, first + 0.3) == NO_TARGET  # during the word
    assert at(target_row, first_target_s - 0.03) == NO_TARGET
    assert at(target_row, first_target_s + 0.03) == 1
    assert at(target_row, first + 0.99) == 1  # until the clip ends, or for hold_ms
    until = first + max(1.0, 0.5 + config.hold_ms / 1000)
    assert at(target_row, until + 0.05) == NO_TARGET
    assert at(target_row, until + config.release_ms / 1000 + 0.05) == silence
    assert at(target_row, first + 1.99) == silence


def test_clip_that_ends_within_its_word_has_it_as_target(tones):
    batches = make_batches(tones, rows=1, abutted_share=1.0, seconds_per_clip=1.0)
    placed = batches.place_clips(clips_of([1, 2], (0.3, 1.0)), torch.tensor([False]))
    (target_row,) = placed.targets
    for end_s, word in ((1.0, 1), (2.0, 2)):
        assert at(target_row, end_s - 0.24) == NO_TARGET
        assert at(target_row, end_s - 0.16) == at(target_row, end_s - 0.02) == word
    assert at(target_row, 1.1) == 1  # the next word starts at 1.3


def test_words_are_placed_whole_and_in_order(tones):
    batches = make_batches(tones, rows=50, abutted_share=0.0, clips=4)
    outputs = [0, 1, 2, 0] * 50
    clips = clips_of(outputs, (0.3, 0.6))
    spans = clips.spans.view(50, 4, 2)
    offsets = batches.random_offsets(spans, batches.steps * STEP, clips.samples)
    starts, ends = (spans + offsets[..., None]).unbind(dim=2)
    assert starts.min() >= 0
    assert ends.max() <= batches.steps * STEP - 0.14 * RATE
    gaps = starts[:, 1:] - ends[:, :-1]
    assert gaps.min() >= -1
    assert gaps.max() > 0.5 * RATE
    samples = batches.place_clips(clips, torch.zeros(50, dtype=torch.bool)).samples
    assert samples.sum(dim=1) == pytest.approx(4 * 0.3 * RATE, abs=1)


@pytest.mark.parametrize(("crowding", "least_s"), [(0.0, 0.2), (1.0, 0.0)])
def test_crowding_allows_words_without_a_pause(tones, crowding, least_s):
    """In the row with the closest words of 100 rows of four."""
    batches = make_batches(tones, rows=100, abutted_share=0.0, clips=4, crowding=crowding)
    clips = clips_of([0, 1, 2, 0] * 100, (0.3, 0.6))
    spans = clips.spans.view(100, 4, 2)
    offsets = batches.random_offsets(spans, batches.steps * STEP, clips.samples)
    starts, ends = (spans + offsets[..., None]).unbind(dim=2)
    between_s = (starts[:, 1:] - ends[:, :-1]).sum(dim=1) / RATE
    assert least_s - 0.001 <= between_s.min() <= least_s + 0.6
    assert (between_s < 0.15).any() == (crowding == 1.0)


def test_last_word_of_a_row_stays_the_target_in_the_next(tones, monkeypatch):
    """If the row continues a stream in which a word ended shortly before."""
    batches = make_batches(tones, rows=2, abutted_share=0.0, silence_share=1.0)
    silence = 7
    monkeypatch.setattr(batches.clips, "silence", silence)
    hold_s = batches.config.hold_ms / 1000
    batches.carried["held_s"] = torch.tensor([hold_s - 0.2] * 2)
    batches.carried["output"] = torch.tensor([2, 2])
    clips = clips_of([silence] * 4, (0.0, 1.0))
    targets = batches.place_clips(clips, torch.tensor([True, False])).targets
    assert at(targets[0], 0.02) == 2
    assert at(targets[0], hold_s - 0.2 - 0.02) == 2
    assert at(targets[0], hold_s - 0.2 + 0.1) == NO_TARGET
    assert targets[0, -1] == targets[1, 0] == silence
    # These rows have no word, so that word is now further away.
    length_s = batches.steps * STEP / RATE
    assert batches.carried["held_s"][0].item() == pytest.approx(hold_s - 0.2 - length_s)
    assert batches.carried["held_s"][1].item() < -100
    clips = clips_of([0, 1, 2, 0], (0.2, 0.6))
    batches.place_clips(clips, torch.tensor([True, True]))
    assert batches.carried["output"].tolist() == [1, 0]
    assert (batches.carried["held_s"] > -length_s).all()


def test_words_of_a_batch_are_in_order_without_silence(tones, monkeypatch):
    batches = make_batches(tones, rows=2, clips=4)
    monkeypatch.setattr(batches.clips, "silence", 1)
    outputs = torch.tensor([0, 1, 2, 0, 1, 1, 2, 1])
    drawn = clips_of(outputs.tolist(), (0.2, 0.6))
    monkeypatch.setattr(batches.clips, "draw", lambda count: drawn)
    monkeypatch.setattr(batches, "choose_rows", lambda: torch.zeros(2, dtype=torch.bool))
    assert batches.draw_rows(8).words.tolist() == [[0, 2, 0, NO_WORD], [2] + [NO_WORD] * 3]


def test_consecutive_rows_equal_one_long_recording(tones):
    batches = make_batches(tones, STILL, carry_share=1.0)
    model = batches.clips.model.eval()
    first = batches.draw_rows(16)
    batches.carry(_state_after(model, batches.featurize(first)))
    second = batches.draw_rows(16)
    batch = batches.featurize(second)
    encoded, _ = model.encode(batch.features, batch.state)
    whole, _ = model(torch.cat([first.samples, second.samples], dim=1))
    steps = second.targets.shape[1]
    torch.testing.assert_close(
        model.fold(model.apply_heads(encoded)),
        whole[:, -steps:],
        atol=1e-4,
        rtol=0,
        check_stride=False,
    )


def _state_after(model, batch):
    _, state = model.encode(batch.features, batch.state)
    return batch.state | state


def test_rows_that_do_not_continue_start_from_zeros(tones):
    batches = make_batches(tones, carry_share=0.5)
    for name, tensor in batches.clips.model.initial_state(1).items():
        batches.carried[name] = torch.ones_like(batches.carried[name])
        assert not tensor.any()
    goes_on = batches.choose_rows()
    assert goes_on.any()
    assert not goes_on.all()
    for name in batches.clips.model.initial_state(1):
        of_rows = batches.carried[name].flatten(1)
        assert torch.equal(of_rows.all(dim=1), goes_on)
        assert torch.equal(of_rows.any(dim=1), goes_on)


def test_label_shares_do_not_change_the_streams(tones):
    batches = make_batches(tones)
    before, generators = dict(batches.carried), batches.clips.generators
    random = {name: generator.get_state() for name, generator in generators.items()}
    shares = batches.label_shares()
    assert shares.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert shares.min() > 0
    assert all(torch.equal(generators[name].get_state(), random[name]) for name in random)
    assert all(torch.equal(batches.carried[name], before[name]) for name in before)


@pytest.mark.slow
def test_resumed_stream_run_ends_like_an_uninterrupted_one(tones, tmp_path):
    recipe = stream_recipe(tones, {"epochs": 16})
    loop.train(recipe, tmp_path / "whole", CPU)
    target_row = iter(range(1000))
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, tmp_path / "halves", CPU, stop=lambda: next(target_row) > 5)
    loop.train(recipe, tmp_path / "halves", CPU, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


@pytest.mark.slow
def test_streams_learn_with_the_state_carried(tones, tmp_path):
    result = loop.train(
        stream_recipe(tones, {"epochs": 120}, hold_ms=200, seconds_per_clip=0.6),
        tmp_path / "run",
        CPU,
    )
    assert result.metrics["validation"]["balanced_accuracy"] > 0.9


def test_batch_size_must_be_a_multiple_of_the_clips(tones):
    batches = make_batches(tones, seconds_per_clip=0.3)
    assert batches.steps * STEP >= 2 * batches.clips.clip_samples
    with pytest.raises(UsageError, match=r"batch_size 16 must be a multiple of stream\.clips 3"):
        make_batches(tones, clips=3)


def test_single_clips_precede_streams(tones, monkeypatch):
    """And do not change the state from which the first stream starts."""
    recipe = stream_recipe(tones, begin_at=0.5)
    trainer = Trainer(recipe, prepare(recipe), CPU)
    assert trainer.streams_begin == trainer.steps / 2
    trainer.streams_begin = 3
    rows, learn = [], trainer.learn

    def record(batch, mark):
        rows.append((len(batch.features), batch.state["layer0"].any().item()))
        return learn(batch, mark)

    monkeypatch.setattr(trainer, "learn", record)
    for _ in range(5):
        trainer.train_step()
    clips = recipe.training.batch_size
    assert [count for count, _ in rows] == [clips, clips, clips, clips // 2, clips // 2]
    assert [carried for _, carried in rows] == [False, False, False, False, True]


def test_patience_counts_only_after_streams_begin(tones, tmp_path):
    """At a tiny learning rate no validation is better than the first."""
    recipe = stream_recipe(tones, {"learning_rate": 1e-12, "patience": 2}, begin_at=0.5)
    result = loop.train(recipe, tmp_path / "run", CPU)
    assert (result.steps, result.early) == (25, True)  # two validations, each 5 steps, after 15
