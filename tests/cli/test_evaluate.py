"""`speechgru evaluate`, as it is typed."""

import json

import numpy as np
import pytest
import soundfile
import torch
from rich.cells import cell_len
from tones import TONES_HZ, trained_model, untrained_model, write_tones

from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.protocols import TWELVE, make_task
from speechgru.evaluation.metrics import wilson_interval
from speechgru.modelfile.safetensors import save_model


@pytest.fixture
def tones(tmp_path):
    (tmp_path / "tones").mkdir()
    return str(write_tones(tmp_path / "tones"))


@pytest.fixture
def saved(tmp_path):
    """Save a model; gives its path as it is typed."""

    def save(model):
        save_model(model, tmp_path / "model.safetensors")
        return str(tmp_path / "model.safetensors")

    return save


def run_json(capsys, *arguments):
    code = main(["evaluate", *arguments, "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out)


def test_json_has_the_documented_keys(tones, saved, capsys):
    code, told = run_json(capsys, saved(trained_model()), "--data", tones)
    assert code == 0
    assert told["accuracy"] == 1.0
    assert told["n"] == 18
    assert told["ci95"] == list(wilson_interval(18, 18))
    assert (told["protocol"], told["split"]) == ("folder", "testing")
    assert told["per_class"]["mid"]["correct"] == told["per_class"]["mid"]["n"] == 6
    assert told["confusion"]["labels"] == list(TONES_HZ)
    assert told["confusion"]["matrix"] == [[6, 0, 0], [0, 6, 0], [0, 0, 6]]
    assert "carried_accuracy" not in told


def test_split_option(tones, saved, capsys):
    _, told = run_json(capsys, saved(trained_model()), "--data", tones, "--split", "validation")
    assert (told["split"], told["n"]) == ("validation", 6)


def test_carried_orders_depend_on_the_seed(tones, saved, capsys):
    model = untrained_model(protocol="folder", clip_s=0.04, tail_s=0.04)
    with torch.no_grad():
        model.head.weight.mul_(30.0)
    path = saved(model)
    base = (path, "--data", tones, "--carry-state", "--orders", "3")
    _, told = run_json(capsys, *base)
    assert len(told["carried_accuracies"]) == 3
    assert told["carried_accuracy"] == pytest.approx(sum(told["carried_accuracies"]) / 3)
    gap = 100 * (told["accuracy"] - told["carried_accuracy"])
    assert told["reset_gap"] == pytest.approx(gap)
    assert run_json(capsys, *base)[1] == told
    assert run_json(capsys, *base, "--seed", "5")[1] != told


def test_tables_show_figures_and_files(tones, saved, capsys):
    """A model whose outputs for two words are exchanged confuses just those, with every file."""
    model = trained_model()
    swapped = untrained_model(("mid", "low", "high"), **model.metadata)
    swapped.load_state_dict(model.state_dict())
    assert main(["evaluate", saved(swapped), "--data", tones, "--carry-state"]) == 0
    printed = capsys.readouterr().out
    assert "protocol folder, testing split, N = 18 clips" in printed
    low, high = (f"{100 * bound:.2f}" for bound in wilson_interval(6, 18))
    assert f"33.33 % (95 % interval {low} to {high})" in printed
    assert "6  low taken for mid" in printed
    assert "6  mid taken for low" in printed
    assert any(f"low-{speaker}.wav" in printed for speaker in "ghijkl")
    assert "state carried" in printed
    assert "reset gap" in printed


def test_matrix_of_twelve_labels_fits_80_columns_uncut(gsc_open, saved, capsys):
    model = untrained_model(TWELVE, protocol="commands-12")
    assert main(["evaluate", saved(model), "--data", str(gsc_open)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("spoken"))
    matrix = [line.split() for line in lines[first + 1 : first + 13]]
    # Labels too wide for a column: they are numbered, and not cut.
    assert lines[first].split()[1:] == [str(number) for number in range(1, 13)]
    assert [row[:2] for row in matrix] == [[str(i), word] for i, word in enumerate(TWELVE, 1)]
    assert all(len(row) == 14 for row in matrix)
    counts = [int(cell) for row in matrix for cell in row[2:] if cell != "·"]
    examples = make_task("commands-12", open_corpus(gsc_open)).split("testing")
    assert sum(counts) == len(examples)
    assert f"N = {len(examples):,} clips" in "\n".join(lines)
    assert all(cell_len(line) <= 80 for line in lines if str(gsc_open) not in line)


def test_many_labels_show_confusions_instead_of_a_matrix(gsc_open, saved, capsys):
    corpus = open_corpus(gsc_open)
    model = untrained_model(corpus.words, protocol="folder")
    with torch.no_grad():
        model.head.weight.mul_(30.0)
    assert main(["evaluate", saved(model), "--data", str(gsc_open)]) == 0
    printed = capsys.readouterr().out
    assert "spoken " not in printed
    assert printed.count(" taken for ") == 12
    tested = {clip.word for clip in corpus.split("testing") if clip.word in corpus.words}
    assert len(tested) > 16
    assert all(f"\n{word} " in printed for word in tested)


def test_picture_is_png_or_refused(tones, saved, tmp_path, capsys):
    path = saved(trained_model())
    picture = tmp_path / "new" / "confusion.png"
    assert main(["evaluate", path, "--data", tones, "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", path, "--data", tones, "--picture", str(tmp_path / "x.jpg")]) == 2
    assert "x.jpg: pictures are PNG" in capsys.readouterr().err
    assert not (tmp_path / "x.jpg").exists()


def test_unwritable_picture_is_refused_before_the_work(tones, saved, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    picture = str(tmp_path / "file" / "confusion.png")
    code = main(["evaluate", saved(trained_model()), "--data", tones, "--picture", picture])
    printed = capsys.readouterr()
    assert (code, printed.out) == (1, "")
    assert f"{picture}: cannot be written" in printed.err


@pytest.mark.parametrize("more", [[], ["--streaming", "--minutes", "0.3"]])
def test_figures_are_printed_even_if_the_picture_fails(
    tones, saved, tmp_path, capsys, monkeypatch, more
):
    def fail(*_):
        raise OSError(28, "No space left on device", "confusion.png")

    monkeypatch.setattr("speechgru.evaluation.clip_report.save_confusion_picture", fail)
    monkeypatch.setattr("speechgru.evaluation.det.save_stream_picture", fail)
    picture = str(tmp_path / "confusion.png")
    code = main(["evaluate", saved(trained_model()), "--data", tones, "--picture", picture, *more])
    printed = capsys.readouterr()
    assert code == 1
    assert "N = 18 clips" in printed.out
    assert "No space left on device" in printed.err


def test_min_accuracy_exits_5(tones, saved, capsys):
    model = trained_model()
    assert main(["evaluate", saved(model), "--data", tones, "--min-accuracy", "1"]) == 0
    swapped = untrained_model(("mid", "low", "high"), **model.metadata)
    swapped.load_state_dict(model.state_dict())
    code = main(["evaluate", saved(swapped), "--data", tones, "--min-accuracy", "0.34"])
    printed = capsys.readouterr()
    assert code == 5
    assert "accuracy 0.3333 on 18 clips is below --min-accuracy 0.34" in printed.err
    assert "N = 18 clips" in printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--device", "gpu"), 2, "--device 'gpu': unknown; auto, cpu, cuda"),
        (("--device", "cuda:99"), 2, "--device cuda:99:"),
        (
            ("--split", "test"),
            2,
            "--split test: use one of training, validation, testing (did you mean 'testing'?)",
        ),
        (("--protocol", "foldre"), 2, "(did you mean 'folder'?)"),
        (("--protocol", "v2-12"), 4, "v2-12 needs 10 words"),
        (("--min-accuracy", "95"), 2, "--min-accuracy"),
        (("--orders", "0"), 2, "--orders"),
        (("--data", "nowhere"), 4, "nowhere: not found"),
    ],
)
def test_invalid_options_are_one_sentence(tones, saved, capsys, arguments, code, sentence):
    assert main(["evaluate", saved(trained_model()), "--data", tones, *arguments]) == code
    printed = capsys.readouterr()
    assert sentence in printed.err.replace("\n", " ")
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_model_without_protocol_needs_the_option(tones, saved, capsys):
    path = saved(untrained_model(clip_s=0.5))
    assert main(["evaluate", path, "--data", tones]) == 2
    assert "--protocol is needed: the model does not say" in capsys.readouterr().err
    assert main(["evaluate", path, "--data", tones, "--protocol", "folder"]) == 0


def test_words_missing_in_the_model_are_named(tones, saved, capsys):
    path = saved(untrained_model(("_silence_", "_unknown_", "mid"), protocol="folder"))
    assert main(["evaluate", path, "--data", tones]) == 4
    assert "folder has low, high among its labels" in capsys.readouterr().err.replace("\n", " ")


def test_words_without_a_clip_in_the_split_are_named(tones, saved, tmp_path, capsys):
    lines = (tmp_path / "tones" / "tones.csv").read_text().splitlines()
    path = saved(trained_model())
    for words, sentence in (
        (("mid",), "mid has no clip in the testing split and is not scored"),
        (("mid", "low"), "low, mid have no clip in the testing split and are not scored"),
    ):
        kept = [line for line in lines if not (line.startswith(words) and "testing" in line)]
        (tmp_path / "tones" / "less.csv").write_text("\n".join(kept))
        assert main(["evaluate", path, "--data", str(tmp_path / "tones" / "less.csv")]) == 0
        assert sentence in capsys.readouterr().err.replace("\n", " ")
    assert main(["evaluate", path, "--data", tones]) == 0
    assert "not scored" not in capsys.readouterr().err


def test_broken_recording_is_named(tones, saved, tmp_path, capsys):
    (tmp_path / "tones" / "mid-h.wav").write_text("no audio")
    assert main(["evaluate", saved(trained_model()), "--data", tones]) == 4
    printed = capsys.readouterr()
    assert "mid-h.wav: not a readable audio file" in printed.err.replace("\n", "")
    assert printed.out == ""


def test_broken_recording_of_another_split_does_not_matter(tones, saved, tmp_path):
    samples = np.full(8_000, np.nan, np.float32)
    soundfile.write(tmp_path / "tones" / "mid-a.wav", samples, 16_000, subtype="FLOAT")
    assert main(["evaluate", saved(trained_model()), "--data", tones]) == 0


def test_embedded_corpus_by_name(saved, capsys):
    model = untrained_model(TWELVE, protocol="commands-12")
    code, told = run_json(capsys, saved(model), "--data", "embedded")
    assert code == 0
    assert told["n"] == sum(found["n"] for found in told["per_class"].values())
    assert set(told["per_class"]) == set(TWELVE)
