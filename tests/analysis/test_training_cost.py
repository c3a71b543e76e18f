"""The cost of training, and `bench train`: the loop, the bare network and a DataLoader."""

import json

import pytest
import torch
from runs import CPU, QUICK

from speechgru.analysis.dataloader_baseline import DataLoaderBaseline, TorchaudioFeatures
from speechgru.analysis.training_cost import TrainingCost, measure_training, synthetic_data
from speechgru.cli import main
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.training.augmentation import AugmentConfig
from speechgru.training.batches import ClipBatches
from speechgru.training.recipe import Recipe, load_recipe, parse_recipe
from speechgru.training.recipe_files import recipe_names
from speechgru.training.trainer import STAGES, Trainer

pytestmark = pytest.mark.usefixtures("quick_streams")

SMALL = ("--set", "model.hidden=8", "--set", "training.batch_size=4", "--set", "model.layers=1")


def small_recipe(protocol: str = "folder") -> Recipe:
    table = QUICK | {"data": {"protocol": protocol, "clip_s": 0.3}, "training": {"batch_size": 8}}
    return parse_recipe(table, "small")


@pytest.fixture(scope="module")
def cost() -> TrainingCost:
    return measure_training(small_recipe(), CPU, clips=80, batches=15)


def test_loop_is_slower_than_the_bare_network(cost):
    """It also draws and augments clips and computes their features."""
    assert 0 < cost.clips_per_second < cost.bare_clips_per_second
    low, high = cost.loop_over_bare_quartiles
    assert 0 < low <= cost.loop_over_bare <= high
    assert cost.loop_over_bare < 1


def test_stages_are_shares_of_a_step(cost):
    assert tuple(cost.stages) == STAGES
    assert sum(cost.stages.values()) == pytest.approx(1)
    assert all(share > 0 for share in cost.stages.values())


def test_stage_rates_add_up_to_a_step(cost):
    rates = cost.stages_clips_per_second
    assert tuple(rates) == STAGES
    step_s = {stage: 1 / rate for stage, rate in rates.items()}
    whole_s = sum(step_s.values())
    shares = {stage: seconds / whole_s for stage, seconds in step_s.items()}
    assert shares == pytest.approx(cost.stages)


def test_peak_memory_includes_the_clips(cost):
    assert cost.peak_mb > 80 * 0.3 * 16_000 * 2 / 2**20


def test_epoch_is_one_pass_over_the_clips(cost):
    assert cost.epoch_s == pytest.approx(80 / cost.clips_per_second)
    assert cost.corpus_mb == pytest.approx((80 + 70) * 0.3 * 16_000 * 2 / 2**20)


def test_streams_are_measured_from_the_first_step(monkeypatch):
    recipe = small_recipe()
    streams = recipe.stream.model_copy(update={"clips": 2, "begin_at": 0.5})
    monkeypatch.delattr(ClipBatches, "draw_rows")
    recipe = recipe.model_copy(update={"stream": streams})
    assert measure_training(recipe, CPU, clips=80, batches=1).clips_per_second > 0


def test_progress_counts_batches():
    calls: list[tuple[int, int]] = []
    measure_training(small_recipe(), CPU, 40, 3, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_synthetic_clips_fit_every_recipe(name):
    """In shape and labels; no file is touched."""
    recipe = load_recipe(name, ["training.begin_with=''"])
    small = recipe.model.model_copy(update={"hidden": 4, "layers": 1})
    data = synthetic_data(recipe, 350)
    trainer = Trainer(recipe.model_copy(update={"model": small}), data, CPU)
    seconds = recipe.data.clip_s or 1.0
    assert trainer.batches.clips.clip_samples == round(seconds * recipe.features.sample_rate)
    assert len(trainer.model.labels) in (10, 12, 35)
    assert not any(clip.path.exists() for clip in data.corpus.clips)
    assert trainer.train_step().isfinite()


def test_synthetic_clips_have_the_recipes_length():
    data = synthetic_data(small_recipe(), 10)
    assert set(data.packed.lengths.tolist()) == {4_800}
    first = torch.from_numpy(data.packed.samples(data.corpus.clips[0].path).copy()).float()
    assert first.std().item() == pytest.approx(8_000 / 3**0.5, rel=0.1)


def test_bench_train_json(capsys):
    arguments = ["bench", "train", "--clips", "100", "--batches", "2", "--device", "cpu", "--json"]
    assert main([*arguments, *SMALL]) == 0
    printed = json.loads(capsys.readouterr().out)
    keys = {"clips_per_second", "bare_clips_per_second", "loop_over_bare", "stages", "peak_mb"}
    assert keys <= printed.keys()
    assert printed["recipe"] == "gsc-open-12"
    assert (printed["batch_size"], printed["batches"]) == (4, 2)


@pytest.mark.slow
def test_bench_train_as_text(capsys):
    arguments = ["bench", "train", "--recipe", "my-words", "--clips", "100", "--batches", "1"]
    assert main([*arguments, "--device", "cpu", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("my-words on cpu")
    for name in ("training loop", "network alone", "loop over network", *STAGES):
        assert name in printed


def test_bench_train_usage_errors(capsys):
    assert main(["bench", "train", "--recipe", "nothing"]) == 2
    assert main(["bench", "train", "--batches", "0"]) == 2
    assert main(["bench", "train", "--device", "tpu"]) == 2
    assert capsys.readouterr().out == ""


# The DataLoader baseline.


@pytest.mark.parametrize("kind", ["logmel", "mfcc"])
def test_torchaudio_features_equal_ours(kind):
    """So both feed the network alike."""
    config = FeatureConfig(kind=kind)
    model = SpeechGRU(ModelConfig(hidden=4, layers=1), config, ("yes", "no"))
    clip = 0.1 * torch.randn(16_000)
    ours, _ = model.extract(clip[None], model.initial_state(1)["samples"])
    torch.testing.assert_close(TorchaudioFeatures(config)(clip).t(), ours[0], atol=1e-4, rtol=0)


def test_baseline_reads_files_and_augments_each_clip(tmp_path):
    trainer = Trainer(small_recipe(), synthetic_data(small_recipe(), 40), CPU)
    baseline = DataLoaderBaseline(trainer, tmp_path, workers=1)
    assert [file.name for file in baseline.files[:2]] == ["0.wav", "1.wav"]
    assert len(baseline.files) == 40
    clips = baseline.loader.dataset
    features, class_id = clips[3]
    assert features.shape == (30, 20)
    assert class_id == trainer.batches.clips.classes[3]
    again, _ = clips[3]
    assert not torch.equal(features, again)
    baseline.turn()
    assert trainer.state.progress.step == baseline.turn_batches


def test_baseline_without_augmentation_equals_the_packed_clip(tmp_path):
    recipe = small_recipe()
    still = AugmentConfig(
        shift_ms=0, speed=0, gain_db=0, noise_probability=0, time_masks=0, band_masks=0
    )
    recipe = recipe.model_copy(update={"augment": still})
    trainer = Trainer(recipe, synthetic_data(recipe, 40), CPU)
    features, _ = DataLoaderBaseline(trainer, tmp_path, workers=1).loader.dataset[2]
    samples = torch.from_numpy(
        trainer.data.packed.samples(trainer.data.corpus.clips[2].path).copy()
    )
    expected, _ = trainer.model.extract(
        samples[None] / 32_768, trainer.model.initial_state(1)["samples"]
    )
    torch.testing.assert_close(features, expected[0], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_compare_dataloader(capsys):
    arguments = ["bench", "train", "--clips", "40", "--batches", "1", "--device", "cpu", "--json"]
    assert main([*arguments, *SMALL, "--compare-dataloader", "--workers", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["loop_over_dataloader"] > 0
    low, high = printed["loop_over_dataloader_quartiles"]
    assert low <= printed["loop_over_dataloader"] <= high
    low, high = printed["loop_over_dataloader_torch_gru_quartiles"]
    assert 0 < low <= printed["loop_over_dataloader_torch_gru"] <= high
    assert printed["dataloader_clips_per_second"] > 0
    assert (printed["dataloader_workers"], printed["dataloader_files"]) == (1, 40)


@pytest.mark.slow
def test_torch_gru_is_compared_only_for_gru_cells(capsys):
    arguments = ["bench", "train", "--clips", "40", "--batches", "1", "--device", "cpu", "--json"]
    others = ["--compare-dataloader", "--workers", "1", "--set", "model.cell=mgu"]
    assert main([*arguments, *SMALL, *others]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["loop_over_dataloader"] > 0
    assert printed["loop_over_dataloader_torch_gru"] is None


def test_many_synthetic_clips_repeat():
    """They are in a mapped file."""
    data = synthetic_data(small_recipe(), 3_000)
    assert len(data.task.split("training")) == 3_000
    paths = [clip.path for clip in data.corpus.clips]
    first, again, other = (data.packed.samples(paths[i]) for i in (5, 5 + 1024, 6))
    assert (first == again).all()
    assert not (first == other).all()
