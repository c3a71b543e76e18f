"""Cross-validation on tones: every clip tested once, resumed after a stop, sequences with CTC."""

import json
import shutil
from dataclasses import replace

import pytest
import soundfile
from runs import CPU, quick_recipe
from tone_listener import tone_listener
from tones import RATE, shared_tones, tone, write_tones

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.other_sounds import other_sounds
from speechgru.corpora.split_audio import open_split_audio
from speechgru.errors import DataError, InterruptedRunError, UsageError
from speechgru.evaluation.ambient import AmbientSound
from speechgru.training import crossvalidation
from speechgru.training.crossvalidation import CrossValidation, Watch, evaluate_fold
from speechgru.training.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("few_sounds")


@pytest.fixture(autouse=True)
def _little_speech(monkeypatch):
    """A few utterances of the speech that ships with the package, and short streams of words."""
    sounds = other_sounds()
    few = replace(sounds, utterances=sounds.utterances[:20:3])
    monkeypatch.setattr(crossvalidation, "other_sounds", lambda: few)
    monkeypatch.setattr(crossvalidation, "_MINUTES", (0.3, 20.0))


@pytest.fixture
def recipe():
    return quick_recipe(shared_tones(), epochs=25, validations=2)


def test_every_clip_is_tested_once(recipe, tmp_path):
    lines = []
    report = CrossValidation(recipe, tmp_path / "cv", folds=2).run(CPU, Watch(lines.append))
    corpus = open_corpus(shared_tones())
    assert sorted(clip.file for clip in report.clips) == sorted(c.path.name for c in corpus.clips)
    assert report.accuracy["accuracy"] > 0.6  # chance is a third
    assert report.missed is not None
    assert report.missed["n"] > 10
    assert report.false_alarms is not None
    assert 0.002 < report.false_alarms["hours"] < 0.1
    assert report.by == "speaker"
    assert [line[:12] for line in lines] == ["fold 1 of 2:", "fold 2 of 2:"]


@pytest.mark.parametrize("absolute", [False, True])
def test_words_of_a_stream_are_by_their_speakers(tmp_path, absolute):
    """Intervals are over speakers: also where a manifest names files elsewhere."""
    corpus = open_corpus(shared_tones())
    rows = ["file,word,speaker,split"]
    for clip in corpus.clips:
        shutil.copy(clip.path, tmp_path / clip.path.name)
        path = clip.path if absolute else clip.path.name
        rows.append(f"{path},{clip.word},{clip.speaker},{clip.split}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    audio = open_split_audio(tmp_path / "list.csv", "folder", "testing", RATE)
    speech = AmbientSound(tmp_path, (), RATE)
    found = evaluate_fold(TorchBackend(tone_listener()), audio, speech)
    assert {word.speaker for word in found.streamed} == {c.speaker for c in corpus.split("testing")}


def test_stopped_cross_validation_continues(recipe, tmp_path):
    reports = []

    def stop() -> bool:
        return len(reports) >= 4

    watch = Watch(report=reports.append, stop=stop)
    with pytest.raises(InterruptedRunError, match=r"stopped in fold \d of 2; the same command"):
        CrossValidation(recipe, tmp_path / "cv", folds=2).run(CPU, watch)
    report = CrossValidation(recipe, tmp_path / "cv", folds=2).run(CPU, Watch())
    assert len(report.clips) == 36
    # A third time nothing is trained.
    again = CrossValidation(recipe, tmp_path / "cv", folds=2).run(
        CPU, Watch(report=lambda status: pytest.fail("trained again"))
    )
    assert again == report


def test_other_settings_need_another_directory(recipe, tmp_path):
    (tmp_path / "cv").mkdir()
    first = CrossValidation(recipe, tmp_path / "cv", folds=2)
    (tmp_path / "cv" / "crossvalidation.json").write_bytes(b"{\xff}")  # damaged, too
    with pytest.raises(UsageError, match="other recordings or settings"):
        CrossValidation(recipe, tmp_path / "cv", folds=2)
    renamed = CrossValidation(recipe, tmp_path / "cv", folds=2, may_rename=True)
    assert renamed.out == tmp_path / "cv-2"
    assert first.out == tmp_path / "cv"


def test_finished_fold_of_other_recordings_is_refused(tmp_path):
    """A recording was replaced by one of the same size."""
    recipe = quick_recipe(write_tones(tmp_path), epochs=1, validations=1)
    CrossValidation(recipe, tmp_path / "cv", folds=2).run(CPU, Watch())
    shutil.copyfile(tmp_path / "high-a.wav", tmp_path / "low-a.wav")
    with pytest.raises(DataError, match="fold-1: the recordings have changed since this run began"):
        CrossValidation(recipe, tmp_path / "cv", folds=2).run(CPU, Watch())
    lines: list[str] = []
    for number in (1, 2):
        shutil.rmtree(tmp_path / "cv" / f"fold-{number}" / "last")
    CrossValidation(recipe, tmp_path / "cv", folds=2).run(CPU, Watch(lines.append))
    assert sum("no checkpoint in last/, so whether the recordings have" in x for x in lines) == 2


def test_damaged_result_of_a_fold_is_an_error(recipe, tmp_path):
    validation = CrossValidation(recipe, tmp_path, folds=2)
    (tmp_path / "fold-1.json").write_text('{"clips": 3}')
    with pytest.raises(DataError, match=r"fold-1\.json: is not the result of a fold"):
        validation.run(CPU, Watch())


@pytest.mark.slow
def test_ctc_model_is_tested_on_sequences_with_more_clips_to_train_on(recipe, tmp_path):
    table = recipe.model_dump(mode="json")
    table["model"]["heads"] = ["ctc"]
    recipe = parse_recipe(table, "ctc")
    more = write_tones(tmp_path / "more")
    for number, clip in enumerate(open_corpus(more).clips):  # none is the same as in the data
        soundfile.write(clip.path, tone(clip.word, 900 + number), RATE)
    validation = CrossValidation(recipe, tmp_path / "cv", 2, also=str(more))
    lines: list[str] = []
    report = validation.run(CPU, Watch(lines.append))
    training = len(open_corpus(more).split("training"))
    assert lines[0] == f"{more.parent}: {training} more recordings to train with"
    assert report.word_error_rate is not None
    assert len(report.word_error_rate["by_fold"]) == 2


def test_too_few_clips_for_a_sequence_are_tested_as_clips_and_in_a_stream(tmp_path):
    for word in ("low", "high"):
        for take in range(3):
            path = tmp_path / "few" / word / f"{take}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(word, take), RATE)
    table = quick_recipe(tmp_path / "few", epochs=2, validations=1).model_dump(mode="json")
    table["model"]["heads"] = ["ctc", "classify"]
    cv = CrossValidation(parse_recipe(table, "ctc"), tmp_path / "cv", folds=3)
    report = cv.run(CPU, Watch())
    assert len(report.clips) == 6
    assert report.missed is not None
    assert report.word_error_rate is None


def test_what_more_recordings_are_not_trained_with_is_said(recipe, tmp_path):
    """All but one are the same as those of the data."""
    more = write_tones(tmp_path / "more")
    soundfile.write(more.parent / "low-a.wav", tone("low", 999), RATE)
    validation = CrossValidation(recipe, tmp_path / "cv", 2, also=str(more))
    lines: list[str] = []
    with pytest.raises(InterruptedRunError):
        validation.run(CPU, Watch(lines.append, stop=lambda: True))
    assert lines[0] == f"{more.parent}: 1 more recording to train with"
    assert lines[1:3] == [
        f"--also {more}: 24 recordings of its other splits left out",
        f"--also {more}: 11 recordings left out that --data has, too",
    ]
    assert "speakers named as in --data (a)" in lines[3]


def test_more_recordings_of_other_words_are_an_error(recipe, tmp_path):
    sentence = "--also embedded: has none of the words high, low, mid"
    with pytest.raises(DataError, match=sentence):
        CrossValidation(recipe, tmp_path / "cv", folds=2, also="embedded")
    assert not (tmp_path / "cv").exists()


def test_command_prints_json_tables_and_advice(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.toml").write_text(recipe.to_toml())
    command = ["crossvalidate", "quick.toml", "--folds", "2", "--device", "cpu"]
    command += ["--set", "training.epochs=5"]
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["out"], found["folds"], found["by"], found["n"]) == (
        "runs/quick-folds",
        2,
        "speaker",
        36,
    )
    assert {"accuracy", "ci95", "missed", "false_alarms", "per_class", "confusions"} < set(found)
    assert "2 folds by speaker on cpu" in printed.err
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "2 folds by speaker, N = 36 clips" in text
    assert "false alarms   " in text
    assert text.endswith(found["advice"] + "\n")
    assert main([*command, "--set", "training.seed=2", "--out", "runs/quick-folds"]) == 2
    assert "use another --out" in capsys.readouterr().err
    assert main(["crossvalidate", "quick.toml", "--folds", "99"]) == 2
    assert main(["crossvalidate", "--folds", "2"]) == 2
    assert "--data DIR" in capsys.readouterr().err
