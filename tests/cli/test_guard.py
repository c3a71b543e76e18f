"""The guard at the edge: every end has an exit code and, where it failed, one sentence."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product

import pytest

from speechgru.cli import main, outcome
from speechgru.cli.terminal import printable, shortened
from speechgru.errors import DataError

PROGRAM = "from speechgru.cli import entry_point; entry_point()"


def failing_with(error, monkeypatch):
    """`recipes` raises an error."""

    def fail():
        raise error

    monkeypatch.setattr("speechgru.training.recipe_files.recipe_descriptions", fail)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ZeroDivisionError("division by zero"), 1, "unexpected ZeroDivisionError: division by"),
        (RecursionError("maximum recursion depth exceeded"), 1, "unexpected RecursionError"),
        (MemoryError(), 1, "out of memory"),
        (ValueError(), 1, "unexpected ValueError; add --debug"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), 1, "unexpected UnicodeEncodeError"),
        (OSError(28, "No space left on device", "f.bin"), 1, "f.bin: No space left on device"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), 2, "xxx: File name too long"),
        (ModuleNotFoundError("no av", name="av.audio"), 1, "this needs the package av, which is"),
        (BaseException("panic of a library"), 1, "unexpected BaseException: panic"),
        (DataError("clip.wav: 0 samples"), 4, "clip.wav: 0 samples"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_a_sentence_and_an_exit_code(error, code, sentence, monkeypatch, capsys):
    failing_with(error, monkeypatch)
    assert main(["recipes"]) == code
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {sentence}")
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["train", "quickstart", "--out", ""], "the argument after --out"),
        (["train", "quickstart", "--out="], "--out"),
        (["data", "stats", ""], "the argument after stats"),
        ([""], "the argument after speechgru"),
    ],
)
def test_empty_argument_is_not_the_current_folder(arguments, place, capsys):
    assert main(arguments) == 2
    assert f"error: {place} is empty; is a shell variable unset?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--debug", "recipes"], ["recipes", "--debug"]])
def test_debug_shows_the_traceback_too(arguments, monkeypatch, capsys):
    failing_with(ZeroDivisionError("division by zero"), monkeypatch)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: unexpected ZeroDivisionError")
    assert "Traceback (most recent call last)" in said


def test_messages_are_at_most_400_characters_on_one_line(monkeypatch, capsys):
    failing_with(DataError("long.csv: " + "x\n" * 3_000 + "the end"), monkeypatch)
    assert main(["recipes"]) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) <= len("error: \n") + 400
    assert said.startswith("error: long.csv: x")
    assert said.endswith("the end\n")


def test_a_long_option_is_a_short_message(capsys):
    assert main(["train", "--" + 3_000 * "x"]) == 2
    assert max(map(len, capsys.readouterr().err.splitlines())) <= 420


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 日本", "größe 日本"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x9b2J", r"\x9b2J"),
        ("right\u202eleft", r"right\u202eleft"),
        ("caf\udce9", r"caf\udce9"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown


def test_a_long_text_keeps_its_beginning_and_its_end():
    text = shortened("a" * 500 + "z" * 500, 100)
    assert len(text) == 100
    assert (text[0], text[-1]) == ("a", "z")


def interrupted(code, after):
    """The exit code and stderr of a process that is sent SIGINT once it has printed `after`."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().strip() == after
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


SLOW_IMPORT = """
import builtins, sys, time
real = builtins.__import__
def slow(name, *rest, **more):
    if name == {name!r}:
        print('importing', flush=True)
        try:
            time.sleep(20)
        except KeyboardInterrupt as error:
            {then}
    return real(name, *rest, **more)
builtins.__import__ = slow
sys.argv = ['speechgru', 'recipes']
"""


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("speechgru.cli.interrupts", "raise"),  # our own imports raise it as it is
        *product(
            ("speechgru.cli.app", "rich.table"),
            ("raise", "raise ImportError('half a library') from error"),
        ),
    ],
)
def test_ctrl_c_during_imports_is_one_line_and_130(name, then):
    code, err = interrupted(SLOW_IMPORT.format(name=name, then=then) + PROGRAM, b"importing")
    assert code == 130
    assert err == "error: interrupted\n"


def test_little_is_imported_before_ctrl_c_is_handled():
    script = (
        "import sys; old = set(sys.modules); import speechgru.cli; print(*set(sys.modules) - old)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert all(name.startswith("speechgru") for name in done.stdout.split()), done


def test_closed_stdout_is_no_traceback():
    command = f"import sys; sys.argv = ['speechgru', 'recipes']; {PROGRAM}"
    process = subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes descriptors")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_are_no_fault(closed, tmp_path):
    """No opened file takes their numbers: libraries write into number 2 whatever it is."""
    code = (
        "from speechgru.cli import main; code = main(['recipes', '--json']);"
        f"assert open({str(tmp_path / 'a')!r}, 'w').fileno() > 2; raise SystemExit(code)"
    )
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code])
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes descriptors")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_our_messages_never_take_the_number_of_a_closed_stream(closed):
    """What is written to stdout, or discarded there, would be our messages."""
    code = (
        "import sys; from speechgru.cli import guard;"
        "guard.main = lambda: int(sys.stderr.fileno() < 3); guard.entry_point()"
    )
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code])
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a current directory cannot be deleted there")
def test_a_deleted_current_directory_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert main(["data", "download", "speech-commands-v1"]) == 1
    assert capsys.readouterr().err == "error: the current directory: No such file or directory\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_any_file_name_prints_in_any_encoding(encoding, options, tmp_path):
    name = tmp_path / "größe 日本.wav"
    name.write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "speechgru", "recognize", *options, str(name)],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 4
    assert b"unexpected" not in done.stderr
    if options:
        (row,) = json.loads(done.stdout.decode(encoding))
        assert row["file"] == str(name)


def test_non_unicode_file_name_survives_json(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    with open(name, "wb"):  # noqa: PTH123  pathlib has no bytes
        pass
    done = subprocess.run(
        [sys.executable, "-m", "speechgru", "recognize", "--json", name], capture_output=True
    )
    assert done.returncode == 4
    (row,) = json.loads(done.stdout)
    assert os.fsencode(row["file"]) == name
    assert b"caf\\udce9.wav: " in done.stderr


def test_progress_lines_without_a_terminal(monkeypatch, capsys):
    from speechgru.cli import progress

    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    with progress.progress_bar("decoding") as report:
        report(1, 200)  # too soon
        time.sleep(0.02)
        report(50, 200)
    assert capsys.readouterr().err == "decoding: 50 of 200 (25 %)\n"


def test_an_error_of_ours_is_not_reported_as_one_of_the_parser(capsys):
    assert outcome.exit_code_of(DataError("x"), interrupted=False, debug=False) == 4
    assert capsys.readouterr().err == "error: x\n"


def test_a_tilde_that_no_shell_expanded_is_the_home_directory(tmp_path, monkeypatch, capsys):
    """`--out=~/runs` and service files reach the program as they are."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["recognize", "~/no.wav"]) == 4
    assert f"error: {tmp_path}/no.wav: cannot be read" in capsys.readouterr().err
    assert main(["record", "--out=~/no/own", "--input=~/no.wav", "lumos"]) == 4
    assert f"error: {tmp_path}/no.wav: cannot be read" in capsys.readouterr().err
    assert (tmp_path / "no" / "own").is_dir()
