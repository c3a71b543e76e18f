import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from rich.panel import Panel
from virtual_microphone import plug

from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.cli.views import panel

__all__ = ["plug"]  # a fixture

RATE = 16_000
WORDS = ["low", "high", "mid", "mid", "low"]  # of `tone_stream`
PROGRAM = [sys.executable, "-c", "from speechgru.cli import entry_point; entry_point()"]


@pytest.fixture
def listen(tone_stream, capsys):
    """Runs the verb in this process; gives its exit code, stdout and stderr."""

    def run(*arguments):
        code = main(["listen", tone_stream.model, *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def pipe(monkeypatch):
    """Puts bytes on stdin."""

    def put(content):
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))
        monkeypatch.setattr(sys, "stdin", stdin)

    return put


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def words(events):
    return [event["word"] for event in events]


def test_json_has_what_was_recognized_before_a_recording_breaks_off(listen, tone_stream, tmp_path):
    samples, rate = soundfile.read(tone_stream.file)
    long = np.tile(samples, 1 + round(40 * rate / len(samples)))
    soundfile.write(tmp_path / "whole.flac", long, rate)
    content = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) * 3 // 4])
    code, out, err = listen("--input", tmp_path / "cut.flac", "--json")
    assert code == 4
    assert "cut.flac" in " ".join(err.split())
    assert len(json.loads(out)["events"]) > 5


def test_jsonl_has_one_timed_line_per_word(listen, tone_stream):
    code, out, err = listen("--input", tone_stream.file, "--jsonl")
    assert code == 0
    events = lines(out)
    assert words(events) == WORDS
    for event, (_, start_s, end_s) in zip(events, tone_stream.spans, strict=True):
        assert list(event) == ["t", "start", "end", "word", "score", "latency_ms"]
        assert start_s - 0.05 <= event["start"] <= event["end"] <= event["t"] <= end_s + 0.5
        assert event["latency_ms"] == pytest.approx(1000 * (event["t"] - event["end"]), abs=0.1)
    assert "5 events" in err
    assert "low 2, high 1, mid 2" in err


def test_lines_jsonl_and_json_agree(listen, tone_stream):
    _, jsonl, _ = listen("--input", tone_stream.file, "--jsonl")
    _, plain, _ = listen("--input", tone_stream.file)
    assert [line.split()[2] for line in plain.splitlines()] == WORDS
    code, out, _ = listen("--input", tone_stream.file, "--json")
    (told,) = lines(out)
    assert code == 0
    assert told["events"] == lines(jsonl)
    assert told["words"] == {"low": 2, "high": 1, "mid": 2}
    assert told["seconds"] == pytest.approx(len(read(Path(tone_stream.file))) / RATE, abs=1e-3)
    assert (told["overruns"], told["interrupted"]) == (0, False)


@pytest.mark.parametrize(
    ("sample_format", "numpy_type", "scale"), [("s16le", "<i2", 32_768), ("f32le", "<f4", 1)]
)
def test_pcm_on_a_pipe_gives_the_events_of_the_file(
    listen, pipe, tone_stream, sample_format, numpy_type, scale
):
    _, expected, _ = listen("--input", tone_stream.file, "--jsonl")
    pipe((read(Path(tone_stream.file)) * scale).astype(numpy_type).tobytes())
    code, out, _ = listen("--input", "-", "--format", sample_format, "--jsonl")
    assert code == 0
    assert out == expected


def test_rate_and_channels_of_pcm(listen, pipe, tone_stream):
    samples = np.repeat(read(Path(tone_stream.file)), 3)  # 48 kHz
    pipe(np.stack([samples, samples], axis=1).astype("<f4").tobytes())
    options = ("--rate", 48_000, "--channels", 2, "--format", "f32le", "--jsonl")
    code, out, _ = listen("--input", "-", *options)
    assert code == 0
    assert words(lines(out)) == WORDS


def test_recording_gives_the_same_events_again(listen, tone_stream, tmp_path):
    copy = tmp_path / "new" / "copy.wav"
    clips = tmp_path / "clips"
    code, out, _ = listen(
        "--input", tone_stream.file, "--jsonl", "--record", copy, "--save-dir", clips
    )
    assert code == 0
    assert np.abs(read(copy) - read(Path(tone_stream.file))).max() < 1e-4
    assert listen("--input", copy, "--jsonl")[1] == out
    kept = sorted(clips.rglob("*.wav"), key=lambda path: path.stem)
    assert [path.parent.name for path in kept] == WORDS
    code, out, _ = listen("--input", tone_stream.file, "--record", copy)
    assert code == 2  # what was recorded is not replaced


def test_hooks_get_the_event_and_failures_are_reported(listen, tone_stream, tmp_path):
    out = tmp_path / "out"
    code, _, err = listen(
        "--input", tone_stream.file,
        "--on", f"low=sh -c 'echo $SPEECHGRU_WORD $SPEECHGRU_T >> {out}'",
        "--on", "high=false",
        "--on", "mid=sleep 60",
        "--on", "mid=true > $HOME/log",
        "--on-timeout", "0.3",
    )  # fmt: skip
    assert code == 0
    assert [line.split()[0] for line in out.read_text().splitlines()] == ["low", "low"]
    assert "--on high=false: exit code 1" in err
    assert "--on mid: the command runs without a shell, so > is passed on" in err
    assert "--on low: the command" not in err
    assert "--on mid=sleep 60: killed after 0.3 s" in err


def test_explain_reports_words_below_the_threshold(listen, tone_stream):
    options = ("--threshold", "0.8", "--threshold", "low=1", "--explain", "--jsonl")
    code, out, err = listen("--input", tone_stream.file, *options)
    assert code == 0
    assert words(lines(out)) == ["high", "mid", "mid"]
    held = [line for line in err.splitlines() if "below its threshold of" in line]
    assert len([line for line in held if "near miss: low" in line]) == 2
    assert all("threshold of 1.00" in line for line in held if "near miss: low" in line)


def test_near_misses_are_saved_apart_from_events(listen, tone_stream, tmp_path):
    options = ("--threshold", "0.8", "--threshold", "low=1", "--jsonl", "--save-near-misses")
    code, out, err = listen(
        "--input", tone_stream.file, *options, "--save-dir", tmp_path / "caught"
    )
    assert code == 0
    assert "near miss" not in err  # that is for --explain
    near = sorted((tmp_path / "caught" / "_near_misses_" / "low").glob("*.wav"))
    assert len(near) == 2
    assert not (tmp_path / "caught" / "low").exists()
    described = json.loads(near[0].with_suffix(".json").read_text())
    assert (described["word"], described["held_by"]) == ("low", "threshold")
    assert described["model"] == tone_stream.model
    assert len(list((tmp_path / "caught").glob("*/*.wav"))) == len(lines(out))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--input", "FILE", "--save-near-misses"], 2, "--save-near-misses: needs --save-dir"),
        (["--input", "none.wav"], 4, "none.wav: cannot be read"),
        (["--input", "FILE", "--jsonl", "--json"], 2, "only one of them"),
        (
            ["--input", "FILE", "--device", "usb"],
            2,
            "--device: has no effect when the source is a file",
        ),
        (
            ["--input", "FILE", "--rate", "8000"],
            2,
            "--rate: has no effect when the source is a file",
        ),
        (["--input", "-", "--realtime"], 2, "--realtime: has no effect when the source is stdin"),
        (["--input", "FILE", "--channel", "3"], 4, "there is no channel 3; it has "),
        (["--input", "-", "--format", "mp3"], 2, "--format mp3: s16le or f32le"),
        (["--input", "-", "--rate", "0"], 2, "--rate 0: 1,000 to 768,000 Hz"),
        (["--input", "-", "--channels", "0"], 2, "--channels 0: 1 to 64"),
        (["--input", "FILE", "--on", "low"], 2, "WORD=COMMAND is needed"),
        (["--input", "FILE", "--on", "low=no-such-program"], 2, "is not an executable"),
        (["--input", "FILE", "--on", "go=true"], 2, "the model has no word go; it has low, mid"),
        (["--input", "FILE", "--threshold", "go=0.5"], 2, "threshold go=0.5"),
        (["--input", "FILE", "--threshold", "1.5"], 2, "--threshold 1.5: a number above 0"),
        (["--input", "FILE", "--threshold", "low=high"], 2, "--threshold low=high: a number"),
        (
            ["--input", "FILE", "--record", "all.mp3"],
            2,
            "all.mp3: the name of a recording has to end in .wav",
        ),
    ],
)
def test_invalid_options_are_one_sentence(listen, pipe, tone_stream, options, code, said):
    pipe(b"")
    found, out, err = listen(
        *(tone_stream.file if option == "FILE" else option for option in options)
    )
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("error: ") == 1
    assert "listening" not in err


def test_pipe_ending_within_a_sample_is_reported(listen, pipe, tone_stream):
    pipe((read(Path(tone_stream.file)) * 32_767).astype("<i2").tobytes() + b"\x01")
    code, out, err = listen("--input", "-", "--jsonl")
    assert (code, words(lines(out))) == (0, WORDS)
    assert "ends within a sample; its 1 of 2 bytes" in err


def test_nan_on_a_pipe_ends_listening_after_earlier_words(listen, pipe, tone_stream, tmp_path):
    samples = np.append(read(Path(tone_stream.file)), np.nan)
    pipe(np.pad(samples, (0, 50)).astype("<f4").tobytes())
    copy = tmp_path / "copy.wav"
    code, out, err = listen("--input", "-", "--format", "f32le", "--jsonl", "--record", copy)
    assert code == 4
    assert f"stdin: sample {len(samples) - 1} is nan" in err
    heard_words = words(lines(out))
    assert heard_words == WORDS[: len(heard_words)]
    assert len(heard_words) >= 4
    assert read(copy).size > 0


def begin(tone_stream, *arguments, **options):
    """The verb in a process of its own, which need not import torch."""
    return subprocess.Popen(
        [*PROGRAM, "listen", tone_stream.exported, *arguments], stderr=subprocess.PIPE, **options
    )


def test_endless_pipe_reports_at_once_until_ctrl_c(tone_stream, tmp_path):
    copy = tmp_path / "copy.wav"
    content = (read(Path(tone_stream.file)) * 32_767).astype("<i2").tobytes()
    process = begin(
        tone_stream, "--input", "-", "--jsonl", "--record", str(copy),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(content)
    process.stdin.flush()
    # The pipe stays open: only what is flushed at once can arrive.
    events = [json.loads(process.stdout.readline()) for _ in WORDS]
    assert words(events) == WORDS
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert b"interrupted: " in err
    assert b"5 events" in err
    assert np.abs(read(copy) - read(Path(tone_stream.file))).max() < 1e-3


def test_closed_stdout_is_no_traceback(tone_stream):
    process = begin(tone_stream, "--input", tone_stream.file, "--jsonl", stdout=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert b"Exception" not in err


def test_panel_fits_80_columns(tone_stream):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    process = begin(tone_stream, "--input", tone_stream.file, stdout=theirs, env=environment)
    os.close(theirs)
    shown = bytearray()

    def watch():
        # Linux says with an error that the other end has gone.
        while content := _read_terminal(ours):
            shown.extend(content)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, err = process.communicate(timeout=60)
    watcher.join()
    os.close(ours)
    assert process.returncode == 0, err
    rows = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).splitlines()
    assert max(map(len, rows)) <= 80
    # How often it was drawn before depends on what else runs: the last panel alone.
    panel = rows[max(i for i, row in enumerate(rows) if "╭" in row) :]
    assert any("level" in row for row in panel)
    assert [row.split()[3] for row in panel if " ms " in row and " s  " in row] == WORDS
    assert any("5 events, latency p50" in row for row in panel)


def test_figures_are_whole_in_a_panel_of_40_columns():
    console = Console(width=40, file=io.StringIO())
    rows = panel._bars(36)
    rows.add_row("_silence_", panel._bar(0.5, "cyan"), "peak  -12 dB")
    console.print(Panel(rows, width=36))
    _, row, _ = console.file.getvalue().splitlines()
    assert re.fullmatch(r"│ _silence_ +━+[╸╺]?━* +peak  -12 dB │ *", row)


def _read_terminal(descriptor):
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


@pytest.mark.slow
def test_words_from_a_microphone(plug, tone_stream):
    process = begin(tone_stream, "--jsonl", "--rate", "48000", stdout=subprocess.PIPE)
    begun = process.stderr.readline()
    assert begun.startswith(b"listening to microphone default, 48000 Hz")
    plug("play", tone_stream.few)
    events = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert words(events) == WORDS[:2]
    assert events[1]["start"] - events[0]["start"] == pytest.approx(0.8, abs=0.15)
    # Posteriors, resampler and sound server together.
    assert all(0 < event["latency_ms"] < 1_000 for event in events)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"2 events" in err
    assert b"Expression" not in err  # PortAudio's own messages
