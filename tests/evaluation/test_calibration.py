"""Calibration by false alarms per hour, and the command `calibrate`."""

import json
import math
from typing import ClassVar

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from listener import listening_model, tone_split
from matplotlib import image
from tones import RATE, TONES_HZ, tone

from speechgru.cli import main
from speechgru.corpora.streams import StreamPlan
from speechgru.decoding.ctc import CTCConfig
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.events import Event
from speechgru.errors import DataError, GateError, UsageError
from speechgru.evaluation.ambient import open_ambient, recognize_ambient, too_short
from speechgru.evaluation.calibration import calibrate
from speechgru.evaluation.streams import evaluate_stream, split_case
from speechgru.evaluation.thresholds import THRESHOLDS
from speechgru.labels import BLANK, SILENCE, Spelling
from speechgru.modelfile.safetensors import load_model, save_model
from speechgru.recognition.state_policy import StatePolicy

WORDS = tuple(TONES_HZ)


@pytest.fixture(scope="module")
def tones():
    """The validation tones."""
    return tone_split("validation")


@pytest.fixture(scope="module")
def model():
    return listening_model()


@pytest.fixture(scope="module")
def ambient(tmp_path_factory):
    """Two minutes of noise in two recordings, with four low tones and one mid one; at 22 kHz."""
    folder = tmp_path_factory.mktemp("ambient")
    rng = np.random.default_rng(5)
    for number, said in enumerate((["low", "low", "mid"], ["low", "low"])):
        samples = rng.normal(0, 1e-3, 60 * RATE).astype(np.float32)
        for i, word in enumerate(said):
            start = round((5 + 15 * i) * RATE)
            samples[start : start + RATE // 2] += tone(word, 7 * number + i)
        time_s = np.arange(60 * 22_050) / 22_050
        resampled = np.interp(time_s, np.arange(len(samples)) / RATE, samples)
        (folder / "deeper").mkdir(exist_ok=True)
        soundfile.write(folder / "deeper" / f"{number}.flac", resampled, 22_050)
    return folder


class LessConfident(BandBackend):
    """Less confident about low tones than about others: 0.9 at most."""

    max_posterior = 0.9

    def __call__(self, samples, state):
        log_posteriors, state = super().__call__(samples, state)
        posteriors = np.exp(log_posteriors)
        low = self.labels.index("low")
        removed = posteriors[:, low] * (1 - self.max_posterior)
        posteriors[:, low] -= removed
        posteriors[:, self.labels.index(SILENCE)] += removed
        return np.log(posteriors), state


class Certain(BandBackend):
    """Always certain, so that no threshold helps."""

    def __call__(self, samples, state):
        log_posteriors, state = super().__call__(samples, state)
        certain = np.full(log_posteriors.shape, -30.0)
        certain[np.arange(len(certain)), log_posteriors.argmax(axis=1)] = 0.0
        return certain, state


class CTCBackend(BandBackend):
    """Has a CTC head, which is less confident about low tones."""

    tokens = Spelling.of(BandBackend.labels, "words").tokens
    outputs: ClassVar = {"ctc": tokens}

    def __call__(self, samples, state):
        log_posteriors, state = super().__call__(samples, state)
        places = [self.labels.index(SILENCE if t == BLANK else t) for t in self.tokens]
        posteriors = np.exp(log_posteriors)[:, places]
        low = self.tokens.index("low")
        posteriors[:, 0] += 0.3 * posteriors[:, low]
        posteriors[:, low] *= 0.7
        return np.log(posteriors), state


def calibrated(backend, ambient, case, per_hour, policy=None, **config):
    policy = policy or StatePolicy(mode="silence", silence_s=0.3)
    sound = open_ambient(ambient, RATE)
    return calibrate(backend, sound, case, per_hour, DetectorConfig(**config), policy)


def test_ambient_events_are_counted_by_word(ambient):
    sound = open_ambient(ambient, RATE)
    assert len(sound.paths) == 2
    assert sound.duration_s == pytest.approx(120)
    _, report = recognize_ambient(
        BandBackend(), sound, DetectorConfig(), StatePolicy(mode="silence", silence_s=0.3)
    )
    counts = {word: figures["events"] for word, figures in report.by_word.items()}
    assert counts == {"low": 4, "mid": 1, "high": 0}
    assert report.hours == pytest.approx(1 / 30, rel=1e-3)
    assert report.per_hour == pytest.approx(5 * 30, rel=1e-3)
    low, high = report.ci95
    assert low < 150 < high
    assert report.by_word["high"]["ci95"][0] == 0


@pytest.mark.slow
def test_false_alarms_are_limited_at_the_least_cost(ambient, tones):
    """In two minutes, one event is 30 per hour."""
    case = split_case(tones, StreamPlan(minutes=0.5))
    chosen = {}
    for most in (1, 4, 5):
        found = calibrated(LessConfident(), ambient, case, 30 * most + 1, release=0.3)
        chosen[most] = found.chosen
        assert len(found.chosen.ambient.events) <= most
        assert found.config.thresholds == found.chosen.thresholds
    assert chosen[5].stream.errors <= chosen[4].stream.errors <= chosen[1].stream.errors
    # Low tones have the lowest posteriors: with few false alarms theirs is the threshold that
    # rises.
    assert chosen[1].thresholds["low"] > 0.8 > chosen[5].thresholds["low"]
    others = [
        [spoken for spoken, _ in chosen[most].stream.matched if spoken.word != "low"]
        for most in (1, 5)
    ]
    assert others[0] == others[1] != []


def test_report_equals_a_run_with_the_thresholds(ambient, tones, model):
    from speechgru.backends.pytorch import TorchBackend

    backend = TorchBackend(model)
    case = split_case(tones, StreamPlan(minutes=0.5))
    policy = StatePolicy(mode="carry")
    found = calibrated(backend, ambient, case, 100, policy)
    output, report = recognize_ambient(backend, open_ambient(ambient, RATE), found.config, policy)
    assert [(e.word, round(e.t, 3)) for e in report.events] == [
        (e.word, round(e.t, 3)) for e in found.chosen.ambient.events
    ]
    assert report.hours == found.chosen.ambient.hours
    assert output.log_posteriors is None  # of a day they would fill the memory
    per_hour = [len(outcome.ambient.events) for outcome in found.trade_off]
    assert per_hour == sorted(per_hour)
    assert found.chosen in found.trade_off


def test_most_unknown_suppresses_words_inside_speech(tones, tmp_path):
    """No threshold separates them: they are the same tones, with noise right before them."""
    rng = np.random.default_rng(1)
    parts = []
    for number, word in enumerate(WORDS * 3):
        speech = 0.3 * rng.standard_normal(RATE).astype(np.float32)
        parts += [speech, tone(word, number), np.zeros(RATE, np.float32)]
    soundfile.write(tmp_path / "speech.wav", np.concatenate(parts), RATE)
    case = split_case(tones, StreamPlan(minutes=0.5))
    found = calibrated(
        BandBackend(), tmp_path, case, 100, StatePolicy(mode="silence", silence_s=0.3)
    )
    assert len(found.before.ambient.events) == 9
    assert found.chosen.ambient.events == ()
    assert found.config.most_unknown < 1
    assert len(found.chosen.stream.matched) == len(found.before.stream.matched) > 0
    assert found.as_dict()["decoder"]["most_unknown"] == found.config.most_unknown


@pytest.mark.parametrize("with_stream", [True, False])
def test_progress_includes_the_thresholds(ambient, tones, with_stream):
    case = split_case(tones, StreamPlan(minutes=0.2)) if with_stream else None
    calls = []
    policy = StatePolicy(mode="silence", silence_s=0.3)
    sound = open_ambient(ambient, RATE)
    calibrate(
        BandBackend(),
        sound,
        case,
        1_000,
        DetectorConfig(),
        policy,
        lambda *args: calls.append(args),
    )
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1]
    assert len(calls) > len(THRESHOLDS)


@pytest.mark.slow
def test_event_policy_runs_the_model_again(ambient, tones):
    case = split_case(tones, StreamPlan(minutes=0.3))
    policy = StatePolicy(mode="event")
    found = calibrated(LessConfident(), ambient, case, 31, policy)
    _, report = recognize_ambient(
        LessConfident(), open_ambient(ambient, RATE), found.config, policy
    )
    assert report.events == found.chosen.ambient.events
    assert len(report.events) <= 1


def test_thresholds_rise_only_as_needed_without_a_stream(ambient):
    found = calibrated(BandBackend(), ambient, None, 1_000, threshold=0.5)
    assert set(found.chosen.thresholds.values()) == {0.5}
    assert found.case is None
    found = calibrated(LessConfident(), ambient, None, 31, threshold=0.5)
    assert found.chosen.thresholds["high"] == found.chosen.thresholds["mid"] == 0.5
    assert found.chosen.thresholds["low"] > 0.5
    assert found.as_dict()["stream"] is None


@pytest.mark.parametrize("mode", ["silence", "event"])
def test_ctc_thresholds_are_calibrated(ambient, tones, mode):
    case = split_case(tones, StreamPlan(minutes=0.4))
    policy, backend = StatePolicy(mode=mode, silence_s=0.3), CTCBackend()
    found = calibrate(backend, open_ambient(ambient, RATE), case, 31, CTCConfig(), policy)
    assert len(found.before.ambient.events) > 1
    assert isinstance(found.config, CTCConfig)
    assert found.chosen.thresholds["low"] > found.chosen.thresholds["high"]
    _, report = recognize_ambient(backend, open_ambient(ambient, RATE), found.config, policy)
    assert report.events == found.chosen.ambient.events
    assert len(report.events) <= 1
    report = evaluate_stream(backend, case, found.config, policy).events
    assert report.matched == found.chosen.stream.matched
    assert report.false_alarms == found.chosen.stream.false_alarms


def test_unreachable_rate_is_an_error(ambient):
    with pytest.raises(GateError, match=r"31 false alarms per hour cannot be reached: .*'low'"):
        calibrated(Certain(), ambient, None, 31)


def test_a_word_that_others_suppressed_is_raised_until_the_rate_is_reached(ambient, monkeypatch):
    """Here mid fires below 0.8, but not while low does, which it does below 0.7."""

    def events(self, output, config):
        low, mid = map(config.threshold_for, ("low", "mid"))
        word = "low" if low < 0.7 else "mid" if mid < 0.8 else None
        return [Event(word, 0.1, 0.2, 0.9, 0.2)] if word else []

    monkeypatch.setattr("speechgru.evaluation.calibration._Recordings._events", events)
    found = calibrated(BandBackend(), ambient, None, 1)
    assert len(found.before.ambient.events) == 1
    assert len(found.chosen.ambient.events) == 0
    assert 0.8 <= found.chosen.thresholds["mid"] < 0.85


@pytest.mark.parametrize("per_hour", [0, -1, math.nan, math.inf])
def test_rate_must_be_above_zero(ambient, per_hour):
    with pytest.raises(UsageError, match="must be a number above 0"):
        calibrated(BandBackend(), ambient, None, per_hour)


def test_model_without_words_is_refused(ambient):
    class Wordless(BandBackend):
        labels = (SILENCE,)

    with pytest.raises(UsageError, match="no word that could be an event"):
        calibrated(Wordless(), ambient, None, 1)


def test_rule_of_three():
    """With no event in H hours, e^(-rate H) = 5 % where rate = 3.0 / H."""
    assert math.exp(-3) == pytest.approx(0.05, rel=0.005)
    assert too_short(3.0, 1.0) is None
    assert too_short(0.3, 10.0) is None
    sentence = too_short(0.5, 2.0)
    assert "0.5 hours" in sentence
    assert "below 6.0 (95 %, one-sided)" in sentence
    assert "1.5 hours are needed" in sentence


def test_missing_and_broken_ambient_audio(tmp_path):
    with pytest.raises(DataError, match="holds no recording"):
        open_ambient(tmp_path, RATE)
    (tmp_path / "notes.txt").write_text("not audio")
    with pytest.raises(DataError, match="holds no recording"):
        open_ambient(tmp_path, RATE)
    with pytest.raises(DataError, match=r"none\.wav: cannot be read"):
        open_ambient(tmp_path / "none.wav", RATE)
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    with pytest.raises(DataError, match=r"broken\.wav: not a readable audio file"):
        open_ambient(tmp_path, RATE)


# The command.


@pytest.fixture
def file(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def run(*arguments):
    return main(["calibrate", *map(str, arguments), "--device", "cpu"])


def options(ambient, tones, per_hour=80):
    manifest = tones.corpus.root / "tones.csv"
    wanted = ["--ambient", ambient, "--max-false-alarms-per-hour", per_hour]
    return [*wanted, "--data", manifest, "--minutes", "0.4"]


@pytest.mark.slow
def test_calibrate_stores_thresholds_with_their_provenance(file, ambient, tones, tmp_path, capsys):
    picture = tmp_path / "det.png"
    assert run(file, *options(ambient, tones), "--picture", picture, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    metadata = load_model(file).metadata
    assert (
        metadata["decoder"]["thresholds"]
        == printed["thresholds"]
        == printed["decoder"]["thresholds"]
    )
    assert set(printed["thresholds"]) == set(WORDS)
    origin = metadata["calibration"]
    assert origin["max_false_alarms_per_hour"] == 80
    assert origin["ambient"]["recordings"] == 2
    assert origin["ambient"]["events"] <= 2
    assert origin["ambient"]["hours"] == pytest.approx(1 / 30, rel=1e-3)
    assert origin["stream"]["split"] == "validation"
    assert origin["data"]["fingerprint"]
    assert len(origin["ambient"]["fingerprint"]) == 64
    assert str(tmp_path.parent) not in json.dumps(metadata)  # nobody's paths are published
    assert printed["written"] == str(file)
    assert "too short to show 80" in printed["too_short"]
    assert image.imread(picture).shape[2] in (3, 4)
    # The detector uses them.
    assert main(["evaluate", str(file), "--ambient", str(ambient), "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)["ambient"]
    assert evaluated["events"] == origin["ambient"]["events"]


def test_calibrate_is_deterministic(file, ambient, tones, tmp_path, capsys):
    before = file.read_bytes()
    for name in ("a", "b"):
        written = ("--state", "carry", "-o", tmp_path / f"{name}.safetensors")
        assert run(file, *options(ambient, tones), *written) == 0
    assert file.read_bytes() == before
    written = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("a", "b")]
    assert written[0] == written[1] != before


def test_calibrate_as_text(file, ambient, tones, capsys):
    before = file.read_bytes()
    assert run(file, *options(ambient, tones), "--dry-run") == 0
    assert file.read_bytes() == before
    printed = capsys.readouterr().out
    for expected in (*WORDS, "chosen", "before", "per hour", "95 % interval", "missed words", "N="):
        assert expected in printed
    assert "too short to show 80 false alarms per hour" in printed
    tables = [line for line in printed.splitlines() if "too short" not in line]
    assert max(map(len, tables)) <= 84
    assert run(file, *options(ambient, tones)[:4], "--state", "carry", "--dry-run") == 0
    assert "missed words" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--max-false-alarms-per-hour", "0"], 2, "--max-false-alarms-per-hour 0: a number above"),
        (["--max-false-alarms-per-hour", "nan"], 2, "a number above 0"),
        (["--dry-run", "-o", "x.safetensors"], 2, "only one of them"),
        (["-o", "x.onnx"], 2, "use a name that ends in .safetensors"),
        (["--picture", "x.png"], 2, "--data DIR is needed"),
        (["--state", "never"], 2, "carry, silence, event"),
        (["--data", "nowhere"], 4, "nowhere: not found"),
        (["--protocol", "folder"], 2, "--data"),
        (["--data", "embedded", "--protocol", "folder"], 4, "labels, which the model lacks"),
        (["--ambient", "nowhere"], 4, "nowhere: cannot be read"),
    ],
)
def test_calibrate_usage_errors(file, ambient, tmp_path, capsys, more, code, message):
    wanted = ["--ambient", ambient, "--max-false-alarms-per-hour", 10]
    before = file.read_bytes()
    assert run(file, *wanted, *more) == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert file.read_bytes() == before


def test_truncated_recording_leaves_the_model_unchanged(file, ambient, tmp_path, capsys):
    whole = next(iter(sorted(ambient.rglob("*.flac")))).read_bytes()
    (tmp_path / "noises").mkdir()
    (tmp_path / "noises" / "broken.flac").write_bytes(whole[: len(whole) // 2])
    before = file.read_bytes()
    assert run(file, "--ambient", tmp_path / "noises", "--max-false-alarms-per-hour", 10) == 4
    assert "broken.flac" in capsys.readouterr().err
    assert file.read_bytes() == before
