"""Training data: what a recipe opens, the classes of clips, and how often each is drawn."""

import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from runs import CPU, make_trainer, quick_recipe
from tones import RATE, tone, write_tones

from speechgru.corpora import Example
from speechgru.errors import DataError, UsageError
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.training import loop
from speechgru.training.data import (
    ClipSampler,
    class_ids,
    has_anagram,
    prepare,
    sampling_weights,
    unknown_words,
)
from speechgru.training.distribution import RowGenerator
from speechgru.training.recipe import Recipe, SamplingConfig

# Opening.


def test_recipe_without_data_is_an_error():
    with pytest.raises(UsageError, match=r"no data: name it with --data DIR"):
        prepare(Recipe())


@pytest.mark.parametrize("split", ["training", "validation"])
def test_empty_split_is_reported_before_decoding(tones, tmp_path, split):
    lines = [f"{tones.parent}/{line}" for line in tones.read_text().splitlines()[1:]]
    lines_left = [line for line in lines if not line.endswith(split)]
    manifest = tmp_path / "less.csv"
    manifest.write_text("\n".join(["file,word,speaker,split", *lines_left]))
    decoded: list[int] = []
    with pytest.raises(DataError, match=f"{tmp_path}: the {split} split has no clips$"):
        prepare(quick_recipe(manifest), lambda done, total: decoded.append(done))
    assert not decoded


def test_too_few_recordings_are_counted_for_the_user(tones, tmp_path):
    for word in ("low", "high"):
        (tmp_path / word).mkdir()
        for take in (1, 2):
            shutil.copy(next(tones.parent.rglob("*.wav")), tmp_path / word / f"anna_{take}.wav")
    with pytest.raises(DataError, match="three recordings or more of each word are needed"):
        prepare(quick_recipe(tmp_path))


def test_whose_recordings_train_and_what_is_not_used_is_said(tmp_path):
    """The other speech of those who validate and test would let them be heard."""
    for word in ("low", "high", "_unknown_"):
        (tmp_path / word).mkdir()
        for speaker, takes in {"anna": 6, "ben": 2, "cleo": 2, "dora": 2, "emil": 2}.items():
            for take in range(takes):
                samples = tone("mid" if word == "_unknown_" else word, take + len(speaker))
                soundfile.write(tmp_path / word / f"{speaker}_{take + 1}.wav", samples, RATE)
    notes = " ".join(prepare(quick_recipe(tmp_path)).notes)
    assert re.search(r"training on anna(, \w+){2}, ", notes)
    assert "4 recordings of other speech not trained on: the words of " in notes


def test_word_without_a_sound_is_mentioned(tmp_path):
    manifest = write_tones(tmp_path)
    for speaker in "abcd":
        soundfile.write(tmp_path / f"mid-{speaker}.wav", np.full(8_000, 9e-4), RATE)
    soundfile.write(tmp_path / "low-a.wav", np.zeros(8_000), RATE)
    notes = prepare(quick_recipe(manifest)).notes
    assert notes == ("mid: no sound in its 4 training recordings",)


def test_recipe_sets_the_clip_length(tones):
    recipe = quick_recipe(tones)
    longer = recipe.model_copy(update={"data": recipe.data.model_copy(update={"clip_s": 0.8})})
    assert prepare(longer).task.clip_s == 0.8
    assert make_trainer(longer).batches.clips.clip_samples == 12_800


@pytest.mark.parametrize(("rest_s", "clip_s"), [(0.0, 0.7), (0.1, 0.7), (0.4, 0.9)])
def test_clips_continue_after_the_words(tmp_path, rest_s, clip_s):
    """Words of half a second, recorded with more or less of the room after them."""
    lines = ["file,word,speaker,split"]
    for speaker, split in {"anna": "training", "ben": "validation"}.items():
        for word in ("low", "high"):
            samples = np.append(tone(word, ord(speaker[0])), np.zeros(round(rest_s * RATE)))
            soundfile.write(tmp_path / f"{word}-{speaker}.wav", samples, RATE)
            lines.append(f"{word}-{speaker}.wav,{word},{speaker},{split}")
    (tmp_path / "words.csv").write_text("\n".join(lines))
    recipe = quick_recipe(tmp_path / "words.csv")
    longer = recipe.data.model_copy(update={"after_words_s": 0.2})
    assert prepare(recipe).task.clip_s == pytest.approx(0.5 + rest_s)
    assert prepare(recipe.model_copy(update={"data": longer})).task.clip_s == clip_s
    fixed = longer.model_copy(update={"clip_s": 0.6})
    assert prepare(recipe.model_copy(update={"data": fixed})).task.clip_s == 0.6


# Classes and weights.


def examples(counts: dict[tuple[str, str], int]) -> tuple[Example, ...]:
    return tuple(
        Example(None, label, word, f"speaker{i}")
        for (label, word), count in counts.items()
        for i in range(count)
    )


def drawn(counts: dict[tuple[str, str], int], **config: float) -> Counter[tuple[str, str]]:
    """The share of draws of each label and word."""
    chosen = examples(counts)
    labels = tuple(dict.fromkeys(e.label for e in chosen))
    weights = sampling_weights(chosen, labels, SamplingConfig(**config))
    assert weights.sum() == pytest.approx(1)
    shares: Counter[tuple[str, str]] = Counter()
    for example, weight in zip(chosen, weights, strict=True):
        shares[example.label, example.word] += weight
    return shares


def test_words_are_drawn_equally_often():
    shares = drawn({("yes", "yes"): 1, ("no", "no"): 10, ("up", "up"): 1_000})
    assert list(shares.values()) == pytest.approx([1 / 3] * 3)


def test_weights_of_unknown_and_silence():
    counts = {("yes", "yes"): 5, (SILENCE, SILENCE): 7, (UNKNOWN, "bed"): 9, (UNKNOWN, "cat"): 36}
    shares = drawn(counts, unknown_weight=3, silence_weight=0.5)
    assert shares["yes", "yes"] == pytest.approx(1 / 4.5)
    assert shares[SILENCE, SILENCE] == pytest.approx(0.5 / 4.5)
    assert shares[UNKNOWN, "bed"] + shares[UNKNOWN, "cat"] == pytest.approx(3 / 4.5)
    # The root of four times the clips.
    assert shares[UNKNOWN, "cat"] == pytest.approx(2 * shares[UNKNOWN, "bed"])


def test_label_without_clips_is_an_error():
    with pytest.raises(DataError, match=r"'up' has no training clip"):
        sampling_weights(examples({("yes", "yes"): 2}), ("yes", "up"), SamplingConfig())


def test_train_reports_a_word_without_training_clips(tmp_path):
    manifest = write_tones(tmp_path)
    text = manifest.read_text().replace("low,a,training", "low,a,validation")
    for speaker in "bcd":
        text = text.replace(f"low,{speaker},training", f"low,{speaker},validation")
    manifest.write_text(text)
    why = r"'low' has no training clip: all of its recordings are for .*validation"
    with pytest.raises(DataError, match=why):
        loop.train(quick_recipe(manifest), tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_unknown_words_have_their_own_classes():
    labels = (SILENCE, UNKNOWN, "yes")
    model = SpeechGRU(ModelConfig(hidden=4), FeatureConfig(), labels, ("bed", "cat"))
    clips = examples(
        {("yes", "yes"): 1, (UNKNOWN, "cat"): 1, (UNKNOWN, "dog"): 1, (SILENCE, "_"): 1}
    )
    assert class_ids(clips, model) == [2, 4, 1, 0]


def test_unknown_words_come_from_the_training_split(tones):
    task = prepare(quick_recipe(tones)).task
    assert unknown_words(task) == ()
    splits = {"training": examples({(UNKNOWN, "cat"): 2, (UNKNOWN, "bed"): 1, ("yes", "yes"): 1})}
    assert unknown_words(replace(task, splits=splits)) == ("bed", "cat")


def test_has_anagram():
    labels = ("no", "on", "yes")
    assert [has_anagram(word, labels) for word in labels] == [True, True, False]


# Sampling.


def test_clips_are_drawn_by_weight():
    chooser = ClipSampler(np.array([0.1, 0.0, 0.6, 0.3]), RowGenerator().manual_seed(0))
    shares = torch.bincount(chooser.next(20_000), minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=0.015, rtol=0)


def test_peek_does_not_advance_the_sampler():
    chooser, plain = (ClipSampler(np.ones(50), RowGenerator().manual_seed(3)) for _ in range(2))
    ahead = chooser.peek(8)
    assert torch.equal(chooser.peek(8), ahead)
    assert torch.equal(chooser.next(8), ahead)
    assert torch.equal(plain.next(8), ahead)
    assert torch.equal(chooser.next(8), plain.next(8))


def test_shares_of_processes_add_up_to_the_whole_draw():
    weights = np.random.default_rng(0).uniform(size=100)
    parts = [ClipSampler(weights, RowGenerator("cpu", p, 2).manual_seed(1)) for p in range(2)]
    whole = ClipSampler(weights, RowGenerator().manual_seed(1)).next(32)
    assert torch.equal(torch.cat([part.next(16) for part in parts]), whole)
