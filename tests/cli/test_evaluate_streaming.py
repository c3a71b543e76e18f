"""A model on a stream: its events, the curve, and the choice of a decoder and a state policy."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from listener import tone_split
from matplotlib import image
from tones import RATE

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.corpora.streams import StreamPlan, write_stream
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import DataError
from speechgru.evaluation.det import THRESHOLDS, det_curve
from speechgru.evaluation.streams import (
    ArraySound,
    FileSound,
    evaluate_stream,
    file_case,
    recognize_stream,
    split_case,
)
from speechgru.evaluation.tuning import GRID, LATENCY_MS, MOST_SILENCE, POLICIES, tune
from speechgru.modelfile.safetensors import load_model, save_model
from speechgru.recognition.state_policy import StatePolicy


@pytest.fixture(scope="module")
def tones():
    """The testing tones."""
    return tone_split()


@pytest.fixture(scope="module")
def backend(stream_model):
    return TorchBackend(load_model(stream_model))


def test_trained_network_recognizes_tones_in_a_stream(backend, tones):
    case = split_case(tones, StreamPlan(minutes=1.0, snr_db=(10, 20)))
    report = evaluate_stream(backend, case, DetectorConfig(smoothing_s=0.1), StatePolicy())
    events = report.events
    assert events.false_reject_rate < 0.1
    assert len(events.false_alarms) <= 2
    # A tone is known once the window is full of it, long before it ends.
    assert -600 < events.latency_ms["p50"] < 0
    assert report.as_dict()["stream"]["minutes"] == 1.0


def test_file_and_memory_give_the_same_events(backend, tones, tmp_path):
    plan = StreamPlan(minutes=0.4)
    write_stream(tmp_path / "s.flac", tones, plan)
    from_file = file_case(tmp_path / "s.flac", None, RATE, backend.labels)
    in_memory = split_case(tones, plan)
    reports = [
        evaluate_stream(backend, case, DetectorConfig(), StatePolicy())
        for case in (from_file, in_memory)
    ]
    assert reports[0].output.events == reports[1].output.events
    assert reports[0].events.as_dict() == reports[1].events.as_dict()
    assert from_file.sound.duration_s == in_memory.sound.duration_s


def test_a_channel_of_a_recording_is_chosen(stream_model, backend, tones, tmp_path, capsys):
    write_stream(tmp_path / "mono.wav", tones, StreamPlan(minutes=0.3))
    samples, _ = soundfile.read(tmp_path / "mono.wav")
    soundfile.write(tmp_path / "both.wav", np.stack([samples, -samples], axis=1), RATE)
    shutil.copy(tmp_path / "mono.json", tmp_path / "both.json")
    _, mono = run(capsys, stream_model, "--streaming", "--audio", tmp_path / "mono.wav")
    options = ["--streaming", "--audio", tmp_path / "both.wav"]
    _, first = run(capsys, stream_model, *options, "--channel", "1")
    assert first["matched"] == mono["matched"] > 0
    assert main(["evaluate", str(stream_model), *map(str, options), "--channel", "3"]) == 4
    assert main(["evaluate", str(stream_model), *map(str, options)]) == 0
    assert "the average of its channels is" in " ".join(capsys.readouterr().err.split())


def test_replay_equals_listening_again(tones):
    """What is replayed is what would have been heard."""
    sound = split_case(tones, StreamPlan(minutes=0.4)).sound
    heard = recognize_stream(BandBackend(), sound, DetectorConfig(), StatePolicy(mode="silence"))
    for config in GRID[:: len(GRID) // 6]:
        afresh = recognize_stream(BandBackend(), sound, config, StatePolicy(mode="silence"))
        assert heard.replay(config) == list(afresh.events)


@pytest.mark.parametrize("mode", ["carry", "event"])
def test_det_curve_trades_false_alarms_for_misses(backend, tones, mode):
    case = split_case(tones, StreamPlan(minutes=0.2))
    config, policy = DetectorConfig(smoothing_s=0.1), StatePolicy(mode=mode)
    report = evaluate_stream(backend, case, config, policy)
    points = det_curve(backend, case.sound, case.truth, report.output, config, policy)
    assert [point.threshold for point in points] == list(THRESHOLDS)
    first, last = points[0], points[-1]
    assert first.false_alarms_per_hour >= last.false_alarms_per_hour
    assert first.false_reject_rate < last.false_reject_rate
    own = next(point for point in points if point.threshold == config.threshold)
    assert own.false_reject_rate == report.events.false_reject_rate
    assert own.false_alarms_per_hour == report.events.false_alarms_per_hour


def test_tuning_ranks_by_errors_and_latency(backend, tones):
    case = split_case(tones, StreamPlan(minutes=0.5))
    grid = GRID[::7]
    heard = []
    trials = tune(backend, case.sound, case.truth, grid, lambda done, of: heard.append((done, of)))
    assert len(trials) == len(grid) * len(POLICIES) + len(MOST_SILENCE) + 1
    costs = [
        trial.report.errors + (trial.report.latency_ms["p50"] or 0) / LATENCY_MS for trial in trials
    ]
    assert costs == sorted(costs)
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1]
    assert len(heard) > len(trials)  # while decoders are tried, too
    best = trials[0]
    again = evaluate_stream(backend, case, best.config, best.policy)
    assert again.events.errors == best.report.errors


def test_tuning_finds_that_a_latching_state_needs_resets(tones):
    """Carried, this backend answers a word for ever, so a repeated one is missed."""
    case = split_case(tones, StreamPlan(minutes=0.5, snr_db=(30, 40), gap_s=(1.5, 2.0)))
    best = tune(BandBackend(), case.sound, case.truth, GRID[::7])[0]
    assert best.policy.mode != "carry"
    carried = evaluate_stream(BandBackend(), case, best.config, StatePolicy(mode="carry"))
    assert carried.events.errors > best.report.errors


@pytest.mark.slow
def test_each_event_in_ambient_sound_is_an_error(backend, tones):
    """Whatever that sound is: here a stream of the words themselves."""
    case = split_case(tones, StreamPlan(minutes=0.3))
    ambient = split_case(tones, StreamPlan(minutes=0.6, seed=1)).sound
    grid = [DetectorConfig(smoothing_s=0.1), DetectorConfig(smoothing_s=1.0, threshold=0.9)]
    told = []

    def heard(done, of):
        told.append(done / of)

    trials = tune(backend, case.sound, case.truth, grid, heard, ambient)
    assert told == sorted(told)
    assert told[-1] == 1
    for trial in trials:
        assert trial.ambient == len(
            recognize_stream(backend, ambient, trial.config, trial.policy).events
        )
        assert trial.errors == trial.report.errors + trial.ambient
    assert trials[0].errors == min(trial.errors for trial in trials)
    without = tune(backend, case.sound, case.truth, grid)
    assert without[0].config == grid[0] != trials[0].config == grid[1]


def run(capsys, *arguments):
    code = main(["evaluate", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_evaluate_streaming_makes_a_stream(stream_model, tones, tmp_path, capsys):
    manifest = tones.corpus.root / "tones.csv"
    picture = tmp_path / "det.png"
    options = ["--streaming", "--minutes", "0.5", "--seed", "2", "--picture", picture]
    code, told = run(capsys, stream_model, "--data", manifest, *options)
    assert code == 0
    assert told["n"] == 18
    assert told["words"] == told["matched"] + told["wrong"] + told["missed"] > 10
    assert told["stream"]["seed"] == 2
    assert told["false_reject_rate"] < 0.2
    assert set(told["latency_ms"]) == {"p50", "p95"}
    assert told["hours"] == pytest.approx(0.5 / 60)
    assert image.imread(picture).shape[2] in (3, 4)
    write_stream(tmp_path / "s.flac", tones, StreamPlan(minutes=0.5, seed=2))
    code, of_file = run(capsys, stream_model, "--streaming", "--audio", tmp_path / "s.flac")
    assert code == 0
    assert {key: of_file[key] for key in ("words", "matched", "false_alarms")} == {
        key: told[key] for key in ("words", "matched", "false_alarms")
    }


def test_evaluate_streaming_tables_fit_80_columns(stream_model, tones, capsys):
    manifest = str(tones.corpus.root / "tones.csv")
    options = ["--data", manifest, "--streaming", "--minutes", "0.3", "--state", "silence"]
    assert main(["evaluate", str(stream_model), *options]) == 0
    told = capsys.readouterr().out
    for expected in ("false rejects", "false alarms", "latency", "silence of 0.5 s", "accuracy"):
        assert expected in told
    assert max(map(len, told.splitlines())) <= 80


@pytest.mark.slow
def test_keep_writes_the_tuned_decoder_into_the_model(stream_model, tones, tmp_path, capsys):
    mine = tmp_path / "mine.safetensors"
    save_model(load_model(stream_model), mine)
    manifest = tones.corpus.root / "tones.csv"
    options = ["--data", manifest, "--streaming", "--minutes", "0.3", "--split", "validation"]
    code, told = run(capsys, mine, *options, "--tune", "--keep")
    assert code == 0
    best = told["trials"][0]
    of_talk = sum(best["conversation"][key] for key in ("wrong", "missed", "false_alarms"))
    of_stream = told["wrong"] + told["missed"] + told["false_alarms"]
    assert best["errors"] == of_stream + of_talk
    kept = load_model(mine).metadata
    assert kept["decoder"] == told["decoder"]
    assert kept["state_policy"] == told["state_policy"]
    assert kept["decoder_chosen_on"]["split"] == "validation"
    assert kept["decoder_chosen_on"]["conversation"]["talk"]["name"] == "bundled"
    assert kept["decoder_chosen_on"]["conversation"]["errors"] == of_talk
    code, again = run(capsys, mine, *options)
    assert again["decoder"] == told["decoder"]


@pytest.mark.slow
def test_tuning_includes_ambient_sound(stream_model, tones, tmp_path, capsys):
    mine = tmp_path / "mine.safetensors"
    save_model(load_model(stream_model), mine)
    write_stream(tmp_path / "around.flac", tones, StreamPlan(minutes=0.2, seed=3))
    options = ["--data", tones.corpus.root / "tones.csv", "--streaming", "--minutes", "0.3"]
    options += ["--split", "validation", "--ambient", tmp_path / "around.flac", "--tune"]
    code, told = run(capsys, mine, *options, "--keep", "--sequences")
    assert code == 0
    best = told["trials"][0]
    of_stream = told["wrong"] + told["missed"] + told["false_alarms"]
    of_talk = sum(best["conversation"][key] for key in ("wrong", "missed", "false_alarms"))
    assert best["errors"] == of_stream + of_talk + best["ambient_events"]
    # Not by the decoder that was in the file before.
    assert told["ambient"]["events"] == best["ambient_events"]
    assert told["sequences"]["decoder"] == told["decoder"]
    assert told["decoder"] != DetectorConfig().model_dump()
    chosen_on = load_model(mine).metadata["decoder_chosen_on"]
    assert chosen_on["ambient"]["recordings"] == 1
    assert chosen_on["ambient"]["events"] == best["ambient_events"]
    assert main(["evaluate", str(mine), *map(str, options)]) == 0
    table = capsys.readouterr().out
    assert "am-" in next(line for line in table.splitlines() if "p50" in line)
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--audio", "s.flac"], 2, "--audio: only has an effect together with --streaming"),
        (["--tune"], 2, "together with --streaming"),
        (["--minutes", "5"], 2, "--minutes: only has an effect together with --streaming or"),
        (
            ["--streaming", "--audio", "s.flac", "--minutes", "5"],
            2,
            "--minutes: only has an effect together with --conversation",
        ),
        (["--seed", "3"], 2, "--seed: only has an effect together with --carry-state, --stream"),
        (["--threshold", "0"], 2, "--threshold: only has an effect together with --streaming"),
        (["--streaming", "--truth", "t.json"], 2, "needs --audio FILE"),
        (["--streaming", "--tune"], 2, "testing split; add --split validation"),
        (["--streaming", "--keep"], 2, "needs --tune"),
        (["--streaming", "--state", "never"], 2, "carry, silence, event"),
        (["--streaming", "--threshold", "0"], 2, "threshold 0"),
        (["--streaming", "--minutes", "0.01"], 4, "holds no clip"),
        (["--conversation", "--minutes", "0.1"], 4, "holds no command"),
        (["--streaming", "--talk", "room"], 2, "together with --conversation or --tune"),
        (["--conversation", "--talk", "no-folder"], 4, "no-folder"),
        (["--streaming", "--audio", "none.flac"], 4, "none.flac"),
    ],
)
def test_invalid_options_are_one_sentence(stream_model, tones, capsys, options, code, message):
    arguments = ["evaluate", str(stream_model), "--data", str(tones.corpus.root / "tones.csv")]
    assert main([*arguments, *options]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [[], ["--streaming", "--audio", "s.flac", "--carry-state"], ["--min-accuracy", "0"]]
)
def test_data_is_required(stream_model, capsys, options):
    assert main(["evaluate", str(stream_model), *options]) == 2
    assert "--data DIR" in capsys.readouterr().err


def test_a_picture_needs_something_to_draw(stream_model, tmp_path, capsys):
    options = ["--ambient", str(tmp_path), "--picture", str(tmp_path / "pic.png")]
    assert main(["evaluate", str(stream_model), *options]) == 2
    assert "--picture: needs --data DIR or --streaming" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "partner"),
    [
        (["--protocol", "folder"], "--data"),
        (["--split", "validation"], "--data"),
        (["--data", "data", "--orders", "5"], "--carry-state"),
        (["--data", "data", "--words", "2:3"], "--sequences"),
        (["--data", "data", "--gap", "0:1"], "--sequences"),
        (["--data", "data", "--snr", "10:20"], "--sequences"),
    ],
)
def test_options_without_an_effect_are_refused(stream_model, tmp_path, capsys, options, partner):
    option = options[-2]
    command = ["evaluate", str(stream_model), "--ambient", str(tmp_path), *options]
    assert main(command) == 2
    assert f"{option}: only has an effect together with {partner}" in capsys.readouterr().err


def test_truth_of_another_recording_exits_4(stream_model, tones, tmp_path, capsys):
    for name, minutes in (("short", 0.2), ("long", 0.3)):
        write_stream(tmp_path / f"{name}.wav", tones, StreamPlan(minutes=minutes))
    options = ["--streaming", "--audio", str(tmp_path / "short.wav")]
    long = ["--truth", str(tmp_path / "long.json")]
    assert main(["evaluate", str(stream_model), *options, *long]) == 4
    assert "long.json: describes 18.000 s" in capsys.readouterr().err
    (tmp_path / "short.json").unlink()
    assert main(["evaluate", str(stream_model), *options]) == 4
    assert "short.json: cannot be read" in capsys.readouterr().err


def test_nan_in_a_stream_is_an_error():
    samples = np.zeros(RATE, np.float32)
    samples[5] = np.nan
    with pytest.raises(DataError, match="sample 5"):
        recognize_stream(BandBackend(), ArraySound(samples, RATE), DetectorConfig(), StatePolicy())


def test_file_at_another_rate_is_resampled(tmp_path):
    time_s = np.arange(2 * 44_100) / 44_100
    soundfile.write(tmp_path / "s.wav", 0.3 * np.sin(2 * np.pi * 900 * time_s), 44_100)
    sound = FileSound(tmp_path / "s.wav", RATE)
    assert sound.duration_s == pytest.approx(2.0)
    assert sum(map(len, sound)) == pytest.approx(2 * RATE, abs=2)
    (found,) = recognize_stream(BandBackend(), sound, DetectorConfig(), StatePolicy()).events
    assert found.word == "mid"
