"""`listen` and `evaluate` with a CTC head, as they are typed."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from tone_listener import stream, tone_listener, with_ctc_head
from tones import RATE, shared_tones

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.decoding.factory import decoder_settings
from speechgru.evaluation import tuning
from speechgru.modelfile.safetensors import load_model, save_model

WORDS = ["low", "high", "mid", "mid", "low"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, stream_model):
    """Model files, a recording of tones, a corpus of them, a grammar."""
    folder = tmp_path_factory.mktemp("ctc")
    (folder / "phrases.txt").write_text("# phrases of this test\nmid (mid|high)\n")
    save_model(with_ctc_head(tone_listener()), folder / "ctc.safetensors")
    in_noise = load_model(stream_model)
    save_model(in_noise, folder / "classify.safetensors")
    save_model(with_ctc_head(in_noise), folder / "ctc-in-noise.safetensors")
    both = with_ctc_head(in_noise, ("classify", "ctc"))
    save_model(both, folder / "both.safetensors")
    samples, _ = stream(WORDS, seed=900)
    soundfile.write(folder / "tones.wav", samples, RATE)
    return SimpleNamespace(
        ctc=str(folder / "ctc.safetensors"),
        in_noise=str(folder / "ctc-in-noise.safetensors"),
        both=str(folder / "both.safetensors"),
        classify=str(folder / "classify.safetensors"),
        file=str(folder / "tones.wav"),
        data=str(shared_tones()),
        grammar=str(folder / "phrases.txt"),
    )


@pytest.fixture
def run(capsys):
    """Runs a command; gives its exit code, and what it says (JSON on stdout read)."""

    def run(*arguments):
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out.startswith("{") else said.out, said.err

    return run


def words(told):
    return [event["word"] for event in told["events"]]


@pytest.mark.parametrize("beam", [[], ["--beam", "1"], ["--beam", "3"]])
def test_listen_with_a_ctc_head(made, run, beam):
    code, told, _ = run("listen", made.ctc, "--input", made.file, *beam, "--json")
    assert (code, words(told)) == (0, WORDS)


def test_grammar_restricts_the_words(made, run):
    arguments = ["listen", made.ctc, "--input", made.file, "--json"]
    code, told, _ = run(*arguments, "--grammar", made.grammar)
    assert (code, words(told)) == (0, ["mid", "mid"])
    first, second = told["events"]
    assert first["t"] == second["t"]


def test_thresholds_apply_to_a_ctc_head(made, run):
    arguments = ["listen", made.ctc, "--input", made.file, "--json"]
    _, told, _ = run(*arguments, "--threshold", "mid=1.0")
    assert words(told) == ["low", "high", "low"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["listen", "classify", "--beam", "3", "--input", "file"], "--beam: needs a model with"),
        (["listen", "ctc", "--explain", "--input", "file"], "a CTC head has no detector"),
        (["listen", "ctc", "--within-speech", "--input", "file"], "is for detectors"),
        (
            ["listen", "ctc", "--beam", "1", "--grammar", "grammar", "--input", "file"],
            "at least 2 hypotheses",
        ),
        (["listen", "ctc", "--threshold", "loud=0.5", "--input", "file"], "threshold loud=0.5"),
        (["evaluate", "ctc", "--data", "data", "--beam", "3"], "with --streaming, --conversation"),
        (["evaluate", "in_noise", "--streaming", "--tune", "--split", "validation",
          "--data", "data", "--beam", "3"],
         "leave --beam out"),
        (["evaluate", "ctc", "--sequences", "--words", "3.5:7", "--data", "data"], "--words 3.5:7"),
        (["evaluate", "ctc", "--sequences", "--gap", "1:0", "--data", "data"], "gap 1:0"),
        (["evaluate", "ctc", "--sequences"], "--data DIR"),
    ],
)  # fmt: skip
def test_invalid_options_are_one_sentence(made, run, arguments, said):
    made = vars(made) | {"folder": str(Path(made.data).parent)}
    code, _, error = run(*(made.get(argument, argument) for argument in arguments))
    assert code == 2
    assert said in " ".join(error.split())


def test_grammar_errors_name_the_line(made, run, tmp_path):
    (tmp_path / "wrong.txt").write_text("low\nmid (hihg|low)\n")
    code, _, error = run("listen", made.ctc, "--input", made.file, "--grammar",
                         str(tmp_path / "wrong.txt"))  # fmt: skip
    assert code == 2
    assert "line 2: 'hihg' cannot be spelled" in " ".join(error.split())
    assert "did you mean 'high'?" in " ".join(error.split())


def test_tuning_tries_each_head_and_keeps_the_best(made, run, tmp_path, monkeypatch):
    fewer = {head: grid[::24] for head, grid in tuning.GRIDS.items()}
    monkeypatch.setattr(tuning, "GRIDS", fewer)
    monkeypatch.setattr(tuning, "POLICIES", tuning.POLICIES[:1])
    mine = shutil.copy(made.both, tmp_path / "mine.safetensors")
    options = ["--data", made.data, "--streaming", "--minutes", "0.3", "--split", "validation"]
    code, told, _ = run("evaluate", str(mine), *options, "--tune", "--keep", "--json")
    assert code == 0
    assert {"beam" in trial for trial in told["trials"]} == {True, False}
    best = told["trials"][0]
    metadata = load_model(mine).metadata
    assert metadata["head"] == ("ctc" if "beam" in best else "classify")
    kept = metadata["ctc_decoder" if "beam" in best else "decoder"]
    assert kept["threshold"] == best["threshold"]


@pytest.mark.slow
def test_tables_of_trials_fit_80_columns(made, run):
    code, table, _ = run("evaluate", made.both, "--data", made.data, "--streaming",
                         "--minutes", "0.3", "--split", "validation", "--tune")  # fmt: skip
    assert code == 0
    assert "latency" in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize("head", ["classify", "ctc"])
def test_kept_head_is_the_default_and_the_other_can_be_chosen(made, run, tmp_path, head):
    mine = tmp_path / "mine.safetensors"
    model = load_model(made.both)
    model.metadata = dict(model.metadata) | {"head": head, "ctc_decoder": {"beam": 1}}
    save_model(model, mine)
    heard = ["listen", str(mine), "--input", made.file, "--json"]
    _, told, _ = run(*heard)
    assert ("beam" in decoder_settings(TorchBackend(load_model(mine)).info).model_dump()) == (
        head == "ctc"
    )
    assert words(told)
    assert run(*heard, "--explain")[0] == 0
    assert run(*heard, "--grammar", made.grammar)[0] == 0


def test_unknown_head_in_a_model_file_exits_4(made, run, tmp_path):
    model = load_model(made.both)
    model.metadata = dict(model.metadata) | {"head": "speller"}
    save_model(model, tmp_path / "mine.safetensors")
    code, _, error = run("listen", str(tmp_path / "mine.safetensors"), "--input", made.file)
    assert code == 4
    assert "head 'speller' is not one of" in " ".join(error.split())


STRINGS = ["--sequences", "--words", "2:3", "--gap", "0.2:0.4"]


@pytest.mark.parametrize("model", ["in_noise", "classify"])
def test_word_error_rate_of_sequences(made, run, model):
    code, told, _ = run("evaluate", vars(made)[model], "--data", made.data, *STRINGS, "--json")
    assert code == 0
    errors = told["sequences"]
    assert errors["words"] == 18
    assert errors["word_error_rate"] <= 0.25
    assert errors["ci95"][0] <= errors["word_error_rate"] <= errors["ci95"][1]
    edits = sum(errors[kind] for kind in ("substitutions", "deletions", "insertions"))
    assert edits / 18 == pytest.approx(errors["word_error_rate"])
    assert set(errors["by_speaker"]) == set("ghijkl")
    assert errors["strings_made"]["words"] == [2, 3]
    assert ("beam" in errors["decoder"]) == (model == "in_noise")
    assert told["n"] == 18  # the clips one by one are there too


def test_sequence_tables_fit_80_columns(made, run):
    code, said, _ = run("evaluate", made.in_noise, "--data", made.data, *STRINGS, "--beam", "2")
    assert code == 0
    assert "bootstrapped" in said
    assert "CTC, beam 2, threshold 0.2" in said
    assert not [line for line in said.splitlines() if len(line) > 80 and "/" not in line]


def test_evaluate_streaming_with_a_ctc_head(made, run):
    stream = ["--data", made.data, "--streaming", "--minutes", "1"]
    code, told, _ = run("evaluate", made.in_noise, *stream, "--json")
    assert code == 0
    assert told["decoder"]["beam"] == 8
    assert told["matched"] >= 0.5 * told["words"] > 5
