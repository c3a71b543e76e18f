"""Clips on the device, in memory or in the file: the same batches, fetched ahead."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import CPU, quick_recipe
from safetensors.torch import load_file

from speechgru.corpora.corpus import Example
from speechgru.corpora.packed import PackedAudio
from speechgru.training import clip_store, loop
from speechgru.training.clip_store import ClipStore, choose_place
from speechgru.training.data import ClipSampler, prepare
from speechgru.training.distribution import RowGenerator
from speechgru.training.trainer import Trainer

PLACES = ["device", "host", "mapped"]
CUDA = torch.device("cuda")


def packed_ramps() -> tuple[PackedAudio, tuple[Example, ...]]:
    """Three recordings: of a clip's length, shorter, longer; and silence."""
    lengths = np.array([100, 60, 250])
    buffer = np.arange(1, 411, dtype=np.int16)
    buffer[160 + 120 : 160 + 220] *= 50  # the loudest part of the last
    paths = tuple(Path(name) for name in "abc")
    examples = [Example(path, "word", "word", "") for path in paths]
    examples += [Example(None, "_silence_", "_silence_", "")]
    examples += [Example(paths[2], "_silence_", "_silence_", "", start_s=s) for s in (0.05, 0.2, 9)]
    return PackedAudio(paths, lengths, buffer, 1_000, ""), tuple(examples)


@pytest.mark.parametrize("place", PLACES)
def test_every_place_gives_the_same_clips(place):
    packed, examples = packed_ramps()
    store = ClipStore(packed, examples, 100, CPU, place)
    assert len(store) == 7
    chosen = torch.tensor([6, 0, 1, 5, 2, 4, 3, 0])
    clips = store.get(chosen)
    assert clips.dtype == torch.int16
    np.testing.assert_array_equal(clips, packed.gather(examples, 100)[chosen])
    np.testing.assert_array_equal(np.concatenate(list(store.blocks())), store.get(torch.arange(7)))
    ramp = np.arange(1, 411)
    np.testing.assert_array_equal(clips[1], ramp[:100])
    np.testing.assert_array_equal(clips[2], np.r_[ramp[100:160], np.zeros(40)])
    np.testing.assert_array_equal(clips[5], packed.buffer[210:310])
    np.testing.assert_array_equal(clips[3], np.r_[packed.buffer[360:410], np.zeros(50)])
    assert not clips[0].any()  # it would begin behind the recording's end
    assert not clips[6].any()


@pytest.mark.parametrize("place", ["host", "mapped"])
def test_what_is_expected_is_there_already(place, monkeypatch):
    packed, examples = packed_ramps()
    store = ClipStore(packed, examples, 100, CPU, place)
    fetched: list[list[int]] = []
    fetch = store._fetch
    monkeypatch.setattr(store, "_fetch", lambda c: (fetched.append(c.tolist()), fetch(c))[1])
    store.prefetch(torch.tensor([1, 2]))
    first = store.get(torch.tensor([1, 2]))
    assert fetched == [[1, 2]]
    store.prefetch(torch.tensor([0, 0]))
    other = store.get(torch.tensor([3, 1]))  # as after a resume
    assert [3, 1] in fetched
    assert torch.equal(first[0], other[1])


def test_the_first_place_with_room_is_taken(monkeypatch):
    monkeypatch.setattr(clip_store, "device_bytes", lambda device: 1_000)
    monkeypatch.setattr(clip_store, "host_bytes", lambda: 5_000)
    assert [choose_place(size, CUDA) for size in (500, 501, 2_500, 2_501)] == [
        *("device", "host", "host", "mapped")
    ]
    # The processor's own memory is the machine's.
    assert [choose_place(size, CPU) for size in (500, 501)] == ["device", "mapped"]


def test_memory_is_more_than_a_gigabyte_and_less_than_a_petabyte():
    assert 1e9 < clip_store.host_bytes() < 1e15
    assert clip_store.device_bytes(CPU) <= 1.5 * clip_store.host_bytes()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("device", "7 clips, 0.00 GB, in memory"),
        ("host", "7 clips, 0.00 GB, in the host's memory, fetched one batch ahead"),
        ("mapped", "7 clips, 0.00 GB, in the packed file, fetched one batch ahead"),
    ],
)
def test_the_place_is_said_in_a_line(place, said):
    assert str(ClipStore(*packed_ramps(), 100, CPU, place)) == said


def test_every_place_trains_the_same(tones, tmp_path):
    """From run to run, and over an interruption, whose clips were expected already."""
    said: list[str] = []
    for place in PLACES:
        recipe = quick_recipe(tones, placement=place, epochs=8)
        loop.train(recipe, tmp_path / place, CPU, say=said.append)
    weights = [load_file(tmp_path / place / "model.safetensors") for place in PLACES]
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name
        assert torch.equal(weights[2][name], tensor), name
    assert ["in memory" in said[0], "host's" in said[1], "packed file" in said[2]] == [True] * 3
    assert said[2] in (tmp_path / "mapped" / "train.log").read_text()


def test_it_is_chosen_by_itself_where_the_recipe_does_not(tones, monkeypatch):
    monkeypatch.setattr(clip_store, "host_bytes", lambda: 0)
    recipe = quick_recipe(tones)
    trainer = Trainer(recipe, prepare(recipe), CPU)
    assert trainer.batches.clips.store.place == "mapped"
    assert trainer.train_step().isfinite()


# Which clip comes next.


def test_clips_come_as_often_as_they_weigh():
    chooser = ClipSampler(np.array([0.1, 0.0, 0.6, 0.3]), RowGenerator().manual_seed(0))
    shares = torch.bincount(chooser.next(20_000), minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=0.015, rtol=0)


def test_a_look_ahead_changes_nothing():
    chooser, plain = (ClipSampler(np.ones(50), RowGenerator().manual_seed(3)) for _ in range(2))
    ahead = chooser.peek(8)
    assert torch.equal(chooser.peek(8), ahead)
    assert torch.equal(chooser.next(8), ahead)
    assert torch.equal(plain.next(8), ahead)
    assert torch.equal(chooser.next(8), plain.next(8))


def test_parts_choose_what_one_chooses_for_all():
    weights = np.random.default_rng(0).uniform(size=100)
    parts = [ClipSampler(weights, RowGenerator("cpu", p, 2).manual_seed(1)) for p in range(2)]
    whole = ClipSampler(weights, RowGenerator().manual_seed(1)).next(32)
    assert torch.equal(torch.cat([part.next(16) for part in parts]), whole)
