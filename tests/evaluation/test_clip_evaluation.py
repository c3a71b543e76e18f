"""Evaluation on clips, from a fresh state and with the state carried; the report and picture."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from bands import BandBackend
from matplotlib import image
from tones import RATE, TONES_HZ, tone, trained_model, untrained_model, write_tones

from speechgru.audio.pcm import to_floats
from speechgru.backends.pytorch import TorchBackend
from speechgru.corpora import Example, Task, open_corpus
from speechgru.corpora.packed import pack
from speechgru.corpora.protocols import make_task
from speechgru.decoding.events import isolated_word
from speechgru.errors import DataError
from speechgru.evaluation.clip_report import ClipReport, save_confusion_picture
from speechgru.evaluation.clips import (
    CarriedReport,
    evaluate_carried,
    evaluate_clips,
    gather_clips,
    random_orders,
)
from speechgru.evaluation.metrics import wilson_interval
from speechgru.model.network import SpeechGRU
from speechgru.recognition.clips import (
    clip_samples,
    recognize,
    score_clips,
    stream_positions,
    tail_steps,
)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """The task and the packed audio of the tones."""
    corpus = open_corpus(write_tones(tmp_path_factory.mktemp("tones")))
    packed = pack(corpus, cache_dir=tmp_path_factory.mktemp("cache"))
    return make_task("folder", corpus), packed


def relabelled(model, labels):
    """The same network with its labels in another order, or with labels that it never gives."""
    other = SpeechGRU(model.config, model.features.config, labels, metadata=model.metadata)
    weights = model.state_dict()
    rows = [model.labels.index(label) if label in model.labels else -1 for label in labels]
    weights["head.weight"] = torch.stack([weights["head.weight"][row] for row in rows])
    bias = weights["head.bias"]
    weights["head.bias"] = torch.stack([bias[row] if row >= 0 else bias[0] - 100 for row in rows])
    weights["log_prior"] = other.log_prior
    other.load_state_dict(weights)
    return other.eval()


def test_trained_model_recognizes_new_speakers(tones):
    report = evaluate_clips(TorchBackend(trained_model()), *_args(tones))
    assert report.accuracy == 1.0
    assert report.n == 18
    assert report.ci95 == wilson_interval(18, 18)
    assert report.confusions == ()
    assert report.per_class["low"]["n"] == report.per_class["low"]["correct"] == 6


def test_wrong_labels_show_up_as_confusions(tones):
    """Two clips of `low` are labelled `high`: these are the only confusions."""
    task, packed = tones
    examples = list(task.split("testing"))
    swapped = [i for i, example in enumerate(examples) if example.word == "low"][:2]
    for i in swapped:
        examples[i] = replace(examples[i], label="high")
    task = replace(task, splits={"testing": tuple(examples)})
    report = evaluate_clips(TorchBackend(trained_model()), task, "testing", packed)
    assert report.accuracy == pytest.approx(16 / 18)
    (confusion,) = report.confusions
    assert (confusion.label, confusion.recognized) == ("high", "low")
    assert {example.path for example, _ in confusion.mistakes} == {
        examples[i].path for i in swapped
    }
    assert all(0.5 < score <= 1.0 for _, score in confusion.mistakes)
    assert report.per_class["high"] | {"ci95": None} == {
        "n": 8,
        "correct": 6,
        "accuracy": 0.75,
        "ci95": None,
        "precision": 1.0,
    }
    assert report.per_class["low"]["precision"] == pytest.approx(4 / 6)
    assert report.balanced_accuracy == pytest.approx((1 + 1 + 0.75) / 3)


def test_labels_are_matched_by_name(tones):
    model = untrained_model(clip_s=0.5)
    first = evaluate_clips(TorchBackend(model), *_args(tones))
    labels = ("high", "_silence_", "low", "mid")
    other = evaluate_clips(TorchBackend(relabelled(model, labels)), *_args(tones))
    assert other.labels == labels
    assert other.accuracy == first.accuracy
    assert other.per_class.keys() == first.per_class.keys()
    assert list(other.per_class) == ["high", "low", "mid"]
    for label in TONES_HZ:
        assert other.per_class[label] == first.per_class[label]


def test_label_that_the_model_lacks_is_an_error(tones):
    model = untrained_model(("_silence_", "_unknown_", "low", "mid"))
    with pytest.raises(
        DataError, match=r"folder has high among its labels, .* trained on _silence_, _unknown_"
    ):
        evaluate_clips(TorchBackend(model), *_args(tones))
    with pytest.raises(DataError, match="which the model lacks"):
        evaluate_carried(TorchBackend(model), *_args(tones))


def test_empty_split_and_wrong_rate_are_errors(tones):
    task, packed = tones
    with pytest.raises(DataError, match="testing split has no clips"):
        evaluate_clips(TorchBackend(untrained_model()), replace(task, splits={}), "testing", packed)
    with pytest.raises(DataError, match="8000 Hz"):
        evaluate_clips(
            TorchBackend(untrained_model()), task, "testing", replace(packed, rate=8_000)
        )


def test_batch_size_does_not_matter(tones):
    model, calls = untrained_model(clip_s=0.5), []
    whole = evaluate_clips(TorchBackend(model), *_args(tones))
    parts = evaluate_clips(
        TorchBackend(model),
        *_args(tones),
        batch_size=5,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert parts.scores == pytest.approx(whole.scores, abs=1e-5)
    assert calls == [(5, 18), (10, 18), (15, 18), (18, 18)]


def test_scores_are_log_probabilities_of_the_tail(tones):
    task, packed = tones
    model = untrained_model(clip_s=0.5, tail_s=0.1)
    clips = gather_clips(TorchBackend(model), packed, task.split("testing"))
    assert (clips.shape[1], tail_steps(TorchBackend(model))) == (8_000, 5)
    with torch.no_grad():
        log_posteriors, _ = model(torch.from_numpy(to_floats(clips)))
    expected = isolated_word(log_posteriors.numpy(), 5)
    assert score_clips(TorchBackend(model), clips) == pytest.approx(expected, abs=1e-5)
    assert np.exp(expected).sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("seconds", [0, -1.0, "one", 1e6, None])
def test_invalid_clip_length_is_an_error(seconds):
    with pytest.raises(DataError, match="clip_s is"):
        clip_samples(TorchBackend(untrained_model(clip_s=seconds)))


def test_clip_length_is_in_whole_steps():
    assert clip_samples(TorchBackend(untrained_model(clip_s=0.7))) == 11_200
    assert clip_samples(TorchBackend(untrained_model(clip_s=0.999))) == 16_000
    assert clip_samples(TorchBackend(untrained_model(clip_s=0.001))) == 320


def test_output_that_is_not_finite_is_an_error(tones):
    model = untrained_model()
    model.deviation.zero_()
    with pytest.raises(DataError, match="NaN"):
        evaluate_clips(TorchBackend(model), *_args(tones))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("front", ["stack", "conv"])
def test_carried_equals_one_long_recording(tones, front, rows):
    """With the network's own output for long recordings as labels, all of them are right."""
    task, packed = tones
    model = untrained_model(front=front, clip_s=0.04, tail_s=0.04)
    examples = list(task.split("testing"))
    clips = gather_clips(TorchBackend(model), packed, examples)
    balance(model, clips)
    (order,) = random_orders(len(clips), 1, seed=7)
    for positions in stream_positions(len(clips), rows):
        row = order[positions % len(clips)]
        with torch.no_grad():
            log_posteriors, _ = model(torch.from_numpy(to_floats(clips[row].reshape(1, -1))))
        steps = log_posteriors.numpy().reshape(len(row), -1, len(model.labels))
        best = isolated_word(steps, tail_steps(TorchBackend(model))).argmax(axis=1)
        for position, clip, label in list(zip(positions, row, best, strict=True))[1:]:
            if position < len(clips):
                examples[clip] = replace(examples[clip], label=model.labels[label])
    task = replace(task, splits={"testing": tuple(examples)})
    carried = evaluate_carried(TorchBackend(model), task, "testing", packed, seed=7, rows=rows)
    assert carried.correct == (len(clips),)
    assert (
        evaluate_carried(TorchBackend(model), task, "testing", packed, seed=7, rows=rows) == carried
    )
    reset = evaluate_clips(TorchBackend(model), task, "testing", packed)
    assert carried.reset_gap(reset) < -5, "the state must matter for this test"


def balance(model, clips):
    """Shift the head so that no label wins everywhere."""
    with torch.no_grad():
        model.head.bias -= torch.from_numpy(score_clips(TorchBackend(model), clips).mean(axis=0))


@pytest.mark.parametrize(("n", "rows"), [(1, 16), (5, 16), (16, 16), (17, 16), (100, 7), (30, 1)])
def test_every_clip_is_scored_once_after_its_predecessor(n, rows):
    positions = stream_positions(n, rows)
    scored = positions[:, 1:][positions[:, 1:] < n]
    assert sorted(scored) == list(range(n))
    assert (np.diff(positions, axis=1) == 1).all()
    assert (positions[:, 0] == positions[:, 1] - 1).all()
    assert len(positions) <= rows


def test_random_orders_are_seeded_permutations():
    orders = random_orders(40, 3, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(40)).all()
    assert (orders[0] != orders[1]).any()
    assert (random_orders(40, 5, seed=1)[:3] == orders).all()
    assert (random_orders(40, 1, seed=2)[0] != orders[0]).any()


def test_progress_counts_all_orders(tones):
    calls = []
    evaluate_carried(
        TorchBackend(untrained_model(clip_s=0.04)),
        *_args(tones),
        orders=2,
        rows=6,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 8) for done in range(1, 9)]


def test_reset_gap_is_in_points():
    scores = np.log(np.full((10, 2), [0.9, 0.1], np.float32))
    reset = ClipReport("p", "testing", ("a", "b"), (), np.array([0] * 9 + [1]), scores)
    carried = CarriedReport("p", "testing", 10, 0, correct=(7, 8))
    assert carried.accuracy == pytest.approx(0.75)
    assert carried.reset_gap(reset) == pytest.approx(90.0 - 75.0)
    assert carried.ci95 == wilson_interval(7.5, 10)
    assert carried.as_dict(reset)["carried_accuracies"] == [0.7, 0.8]


def a_report(labels=12, clips=600, seed=0):
    """Random scores that are mostly right."""
    rng = np.random.default_rng(seed)
    names = tuple(f"word{i}" for i in range(labels))
    truth = rng.integers(0, labels, clips)
    logits = rng.normal(size=(clips, labels)) + 3 * np.eye(labels)[truth]
    scores = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    examples = tuple(Example(None, names[i], names[i], "") for i in truth)
    return ClipReport("folder", "testing", names, examples, truth, scores.astype(np.float32))


def test_json_figures_are_consistent():
    report = a_report()
    printed = report.as_dict()
    matrix = np.array(printed["confusion"]["matrix"])
    assert (
        matrix.sum() == printed["n"] == sum(found["n"] for found in printed["per_class"].values())
    )
    assert np.trace(matrix) / matrix.sum() == printed["accuracy"]
    assert printed["ci95"][0] < printed["accuracy"] < printed["ci95"][1]
    off_diagonal = matrix - np.diag(np.diag(matrix))
    assert printed["worst_confusions"][0]["count"] == off_diagonal.max()
    counts = [len(confusion.mistakes) for confusion in report.confusions]
    assert sum(counts) == off_diagonal.sum()
    assert counts == sorted(counts, reverse=True)
    for confusion in report.confusions:
        scores = [score for _, score in confusion.mistakes]
        assert scores == sorted(scores, reverse=True)


def test_json_lists_every_mistake_the_least_probable_label_first():
    report = a_report()
    mistakes = report.as_dict()["mistakes"]
    assert len(mistakes) == report.n - np.trace(report.confusion) > 0
    assert all(found["label"] != found["recognized"] for found in mistakes)
    assert all(found["label_score"] <= found["score"] for found in mistakes)
    label_scores = [found["label_score"] for found in mistakes]
    assert label_scores == sorted(label_scores)


def test_label_only_the_model_has_is_shown_if_recognized():
    task = Task("folder", ("a", "b"), {})
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32))
    labels = (*task.labels, "_unknown_")
    report = ClipReport("folder", "testing", labels, (), np.array([0, 0]), scores)
    assert report.shown.tolist() == [0, 2]
    assert list(report.per_class) == ["a"]


@pytest.mark.parametrize("labels", [2, 12, 60])
def test_confusion_picture_has_a_dark_diagonal(tmp_path, labels):
    path = tmp_path / "confusion.png"
    save_confusion_picture(a_report(labels, clips=40 * labels), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = image.imread(path)[..., :3]
    dark_blue = (pixels[..., 0] < 0.2) & (pixels[..., 2] > 0.35)
    rows, columns = np.nonzero(dark_blue)
    assert len(rows) > 100
    assert np.corrcoef(rows, columns)[0, 1] > 0.7
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [20, 60, 400])
def test_long_labels_leave_room_for_the_matrix(tmp_path, length):
    report = a_report(8, clips=160)
    labels = (*report.labels[:-1], "a" * length)
    save_confusion_picture(replace(report, labels=labels), tmp_path / "confusion.png")
    pixels = image.imread(tmp_path / "confusion.png")[..., :3]
    dark_blue = (pixels[..., 0] < 0.2) & (pixels[..., 2] > 0.35)
    assert np.ptp(np.nonzero(dark_blue)[1]) > 0.4 * pixels.shape[1]


def _args(tones):
    task, packed = tones
    return task, "testing", packed


class Forgetful(BandBackend):
    """Answers silence as soon as it is quiet, as a network soon does."""

    def _answers(self, steps):
        return [0 if answer is None else answer for answer in super()._answers(steps)]


def test_recordings_shorter_than_the_clips_are_scored_where_their_word_is_heard(tmp_path):
    """As by `recognize`: silence is what follows, and the model's answer at the clip's end."""
    for word in TONES_HZ:
        for take in range(3):
            path = tmp_path / word / f"a_{take}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, tone(word, take)[:5_000], RATE)
    corpus = open_corpus(tmp_path)
    task, packed, model = make_task("folder", corpus), pack(corpus), Forgetful()
    for split in ("training", "validation", "testing"):
        report = evaluate_clips(model, task, split, packed)
        assert report.accuracy == 1.0
        spoken = [example for example in report.examples if example.path is not None]
        assert [recognize(model, e.path).word for e in spoken] == [e.label for e in spoken]
    carried = evaluate_carried(model, task, "training", packed)
    assert carried.correct == (len(task.split("training")),)
    of_benchmark = evaluate_clips(model, replace(task, protocol="v2-12"), "training", packed)
    words = [example.path is not None for example in of_benchmark.examples]
    assert not (of_benchmark.predicted == of_benchmark.truth)[words].any()
