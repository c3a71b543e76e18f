"""Clips on the device, in memory or in the file: the same batches, prefetched."""

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
from speechgru.training.data import prepare
from speechgru.training.trainer import Trainer

PLACES = ["device", "host", "mapped"]
CUDA = torch.device("cuda")


def packed_ramps() -> tuple[PackedAudio, tuple[Example, ...]]:
    """Three recordings, as long as a clip, shorter and longer; and silence."""
    lengths = np.array([100, 60, 250])
    buffer = np.arange(1, 411, dtype=np.int16)
    buffer[160 + 120 : 160 + 220] *= 50  # the loudest part of the last
    paths = tuple(Path(name) for name in "abc")
    examples = [Example(path, "word", "word", "") for path in paths]
    examples += [Example(None, "_silence_", "_silence_", "")]
    examples += [Example(paths[2], "_silence_", "_silence_", "", start_s=s) for s in (0.05, 0.2, 9)]
    return PackedAudio(paths, lengths, buffer, 1_000, ""), tuple(examples)


@pytest.mark.parametrize("place", PLACES)
def test_all_places_return_the_same_clips(place):
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
def test_prefetched_clips_are_not_fetched_again(place, monkeypatch):
    packed, examples = packed_ramps()
    store = ClipStore(packed, examples, 100, CPU, place)
    sizes: list[int] = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: sizes.append(a[0][0]) or empty(*a, **k))
    store.prefetch(torch.tensor([1, 2]))
    first = store.get(torch.tensor([1, 2]))
    assert sizes.count(2) == 1
    # Of another size, as it may still run when the other place is tested.
    store.prefetch(torch.tensor([0, 0, 0, 0]))
    other = store.get(torch.tensor([3, 1, 5]))  # as after a resume
    assert 3 in sizes
    assert torch.equal(first[0], other[1])


def test_first_place_where_clips_fit_is_chosen(monkeypatch):
    monkeypatch.setattr(clip_store, "device_bytes", lambda device: 1_000)
    monkeypatch.setattr(clip_store, "host_bytes", lambda: 5_000)
    assert [choose_place(size, CUDA) for size in (500, 501, 2_500, 2_501)] == [
        *("device", "host", "host", "mapped")
    ]
    # The processor's own memory is the machine's.
    assert [choose_place(size, CPU) for size in (500, 501)] == ["device", "mapped"]


def test_available_memory_is_plausible():
    assert 1e9 < clip_store.host_bytes() < 1e15
    assert clip_store.device_bytes(CPU) <= 1.5 * clip_store.host_bytes()


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("device", "7 clips, 0.00 GB, in memory"),
        ("host", "7 clips, 0.00 GB, in the host's memory, fetched one batch ahead"),
        ("mapped", "7 clips, 0.00 GB, in the packed file, fetched one batch ahead"),
    ],
)
def test_store_describes_itself_in_a_line(place, line):
    assert str(ClipStore(*packed_ramps(), 100, CPU, place)) == line


def test_all_places_train_the_same_weights(tones, tmp_path):
    lines: list[str] = []
    for place in PLACES:
        recipe = quick_recipe(tones, placement=place, epochs=8)
        loop.train(recipe, tmp_path / place, CPU, say=lines.append)
    weights = [load_file(tmp_path / place / "model.safetensors") for place in PLACES]
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name
        assert torch.equal(weights[2][name], tensor), name
    stores = lines[1::2]  # after where each run trains
    assert ["in memory" in stores[0], "host's" in stores[1], "packed file" in stores[2]] == 3 * [
        True
    ]
    assert stores[2] in (tmp_path / "mapped" / "train.log").read_text()


def test_place_is_chosen_automatically(tones, monkeypatch):
    monkeypatch.setattr(clip_store, "host_bytes", lambda: 0)
    recipe = quick_recipe(tones)
    trainer = Trainer(recipe, prepare(recipe), CPU)
    assert trainer.batches.clips.store.place == "mapped"
    assert trainer.train_step().isfinite()
